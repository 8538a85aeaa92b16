"""Where a file of a pack is downloaded from: its own address, or what the package index says today."""

from html.parser import HTMLParser
from urllib.parse import urljoin, urlsplit

import httpx

from supervisor.errors import PackError
from supervisor.packs.pack import PackFile, shipped

JSON = "application/vnd.pypi.simple.v1+json"
INDEX = "package-index"  # a file among the descriptions of packs
ACCEPT = f"{JSON}, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"


class Links(HTMLParser):
    """The links of an index page: address by the file's name."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, str] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        href = dict(attrs).get("href") if tag == "a" else None
        if href:
            self.found[urlsplit(href).path.rpartition("/")[2]] = href.partition("#")[0]


def default_index() -> str:
    """What pip asks when nobody tells it otherwise: its word, or what the build of an image wrote down of it."""
    written = shipped() / INDEX
    if written.is_file():
        return written.read_text(encoding="utf-8").strip()
    try:
        from pip._internal.models.index import PyPI  # noqa: PLC0415 - there is no public way to ask, and images lack pip
    except ImportError as exc:
        raise PackError("no package index is known here; set CLAWLAMA_PACKAGE_INDEX to one") from exc
    return str(PyPI.simple_url)


async def address_of(client: httpx.AsyncClient, file: PackFile, index: str) -> str:
    """Raises PackError when the index does not have the file, httpx.RequestError when it does not answer."""
    if file.url:
        return file.url
    if not file.project:
        raise PackError(f"{file.name}: its pack says neither an address nor a project")
    page = await client.get(f"{index.rstrip('/')}/{file.project}/", headers={"Accept": ACCEPT})
    if page.status_code == httpx.codes.NOT_FOUND:
        raise PackError(missing(file, page.url))
    if page.is_server_error:
        raise httpx.ReadError(f"{page.url.host} answers {page.status_code}")
    if not page.is_success:
        raise PackError(f"the package index {page.url.host} answers {page.status_code}; set CLAWLAMA_PACKAGE_INDEX")
    try:
        links = links_of(page)
    except (ValueError, KeyError, TypeError) as exc:
        raise PackError(f"what answers at {page.url.host} is no package index; set CLAWLAMA_PACKAGE_INDEX") from exc
    if file.name not in links:
        raise PackError(missing(file, page.url))
    return urljoin(str(page.url), links[file.name])


def links_of(page: httpx.Response) -> dict[str, str]:
    """Both forms of the simple repository API: JSON (PEP 691) and HTML (PEP 503)."""
    if page.headers.get("content-type", "").startswith(JSON):
        return {file["filename"]: file["url"] for file in page.json()["files"]}
    parser = Links()
    parser.feed(page.text)
    return parser.found


def missing(file: PackFile, url: httpx.URL) -> str:
    return (
        f"the package index {url.host} does not have {file.name}; set CLAWLAMA_PACKAGE_INDEX to one that has, "
        "or take the image that is tagged cuda"
    )

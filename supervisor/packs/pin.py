"""``python -m supervisor.packs.pin VERSION``: write down which files make a CUDA torch, with sizes and checksums.

pip says what that version needs, and may download it to find out; the package index says what those files are.
What Ollama's packs are made of is written down while the image is built: image/build/pin_ollama.py.
"""

import io
import json
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from rich.console import Console

from supervisor.errors import PackError
from supervisor.packs.address import default_index
from supervisor.packs.pack import Pack, PackFile, shipped

GLIBC = 36  # 2.36, of the image's Debian
OURS = ("torch", "nvidia-")  # the rest of what torch needs is there with any torch, or for compiling kernels only
NOT_NEEDED = ("torch/include/", "torch/share/", "torch/test/", "nvidia/cu13/include/")
out = Console()


def pin(
    version: Annotated[str, typer.Argument(help="Of torch; the one in constraints.txt.")],
    python: Annotated[str, typer.Option(help="Python that runs it.")] = "3.11",
    machine: Annotated[str, typer.Option(help="x86_64 or aarch64")] = "x86_64",
    index: Annotated[str | None, typer.Option(help="Package index; pip's own without it.", show_default=False)] = None,
    into: Annotated[Path | None, typer.Option(help="Folder for the description.")] = None,
) -> None:
    """Write down CUDA torch as the package index has it."""
    with httpx.Client(follow_redirects=True, timeout=60) as client:
        files = tuple(wheel(client, found) for found in resolved(version, python, machine, index or default_index()))
    pack = Pack(
        name="torch-cuda",
        version=version,
        machine=machine,
        gives="torch",
        min_driver=580,  # CUDA 13
        min_compute=7.5,
        python=python,
        files=files,
    )
    write(pack, into or shipped())


def resolved(version: str, python: str, machine: str, index: str) -> Iterator[dict[str, Any]]:
    """What pip would install, without what any torch brings along."""
    tags = [f"manylinux_2_{minor}_{machine}" for minor in range(GLIBC, 4, -1)]
    tags += [f"{name}_{machine}" for name in ("manylinux2014", "manylinux2010", "manylinux1", "linux")]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        pip = [sys.executable, "-m", "pip", "--isolated", "install", "--dry-run", "--ignore-installed", "--quiet"]
        pip += ["--use-feature=fast-deps", "--only-binary=:all:", "--python-version", python, "--implementation", "cp"]
        pip += [f"--abi={abi}" for abi in (f"cp{python.replace('.', '')}", "abi3", "none")]
        pip += [f"--platform={tag}" for tag in tags]
        pip += ["--index-url", index, "--target", folder, "--report", str(report), f"torch=={version}"]
        subprocess.run(pip, check=True)
        found = json.loads(report.read_text())["install"]
    yield from (one for one in found if one["metadata"]["name"].startswith(OURS))


def wheel(client: httpx.Client, found: dict[str, Any]) -> PackFile:
    url, project = found["download_info"]["url"], found["metadata"]["name"]
    size = int(client.head(url).raise_for_status().headers["content-length"])
    with zipfile.ZipFile(io.BufferedReader(Remote(client, url, size), 2**20)) as archive:
        kept = [entry.file_size for entry in archive.infolist() if not entry.filename.startswith(NOT_NEEDED)]
    out.print(f"{url.rpartition('/')[2]}: {size / 1e6:.0f} MB, {sum(kept) / 1e6:.0f} MB unpacked", highlight=False)
    return PackFile(
        name=url.rpartition("/")[2],
        kind="wheel",
        size=size,
        sha256=found["download_info"]["archive_info"]["hashes"]["sha256"],
        unpacked=sum(kept),
        project=project,
        leave_out=NOT_NEEDED,
    )


class Remote(io.RawIOBase):
    """A file on a server, read in pieces: enough for a table of contents."""

    def __init__(self, client: httpx.Client, url: str, size: int) -> None:
        self._client, self._url, self._size, self._at = client, url, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 - whatever takes bytes
        last = min(self._at + len(buffer), self._size) - 1
        if last < self._at:
            return 0
        answer = self._client.get(self._url, headers={"Range": f"bytes={self._at}-{last}"})
        if answer.status_code != httpx.codes.PARTIAL_CONTENT:
            raise PackError(f"{self._url} answers {answer.status_code} to a request for a part; use another index")
        buffer[: len(answer.content)] = answer.content
        self._at += len(answer.content)
        return len(answer.content)


def write(pack: Pack, into: Path) -> None:
    path = into / f"{pack.name}.{pack.machine}.json"
    into.mkdir(parents=True, exist_ok=True)
    path.write_text(pack.model_dump_json(indent=1, exclude_defaults=True) + "\n")
    state = f"without the checksum of {pack.unpinned}" if pack.unpinned else f"{pack.download / 1e9:.2f} GB to download"
    out.print(f"{path.name}: {pack.name} {pack.version}, {state}", highlight=False)


if __name__ == "__main__":
    typer.run(pin)

"""What every client meets first: is it there, which version, and how it refuses."""

import re

import pytest

from tests.contract.ollama.subject import QUESTION, Subject

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_the_root_says_that_it_runs(subject: Subject, method: str) -> None:
    answer = await subject.http.request(method, "/")

    assert answer.status_code == 200
    assert answer.text == ("Ollama is running" if method == "GET" else "")


async def test_the_version_is_a_dotted_number(subject: Subject) -> None:
    version = (await subject.http.get("/api/version")).json()["version"]

    assert re.match(r"\d+\.\d+\.\d+", version)


async def test_an_unknown_route_is_plain_text_404(subject: Subject) -> None:
    answer = await subject.http.get("/api/nothing")

    assert (answer.status_code, answer.text) == (404, "404 page not found")


async def test_a_known_route_with_the_wrong_method_is_405(subject: Subject) -> None:
    assert (await subject.http.get("/api/chat")).status_code == 405


@pytest.mark.parametrize("route", ["chat", "generate", "show", "pull", "create", "copy", "embed"])
async def test_a_request_without_a_body_is_400(subject: Subject, route: str) -> None:
    answer = await subject.http.post(f"/api/{route}")

    assert (answer.status_code, answer.json()) == (400, {"error": "missing request body"})


@pytest.mark.parametrize("route", ["chat", "generate", "show", "create"])
async def test_a_body_that_is_no_json_is_400_with_an_error(subject: Subject, route: str) -> None:
    answer = await subject.http.post(f"/api/{route}", content=b'{"model": nonsense}')

    assert answer.status_code == 400
    assert answer.json()["error"]


async def test_on_loopback_a_foreign_host_header_is_refused(subject: Subject) -> None:
    if "127.0.0.1" not in subject.url and "localhost" not in subject.url:
        pytest.skip("this server does not listen on loopback, where Ollama checks nothing")

    answer = await subject.http.get("/api/version", headers={"Host": "rebound.example.com"})

    assert answer.status_code == 403


UNKNOWN = "clawlama-contract-nobody/has:this"


@pytest.mark.parametrize(
    ("route", "body"),
    [("chat", {"messages": []}), ("generate", {"prompt": "x"}), ("embed", {"input": "x"}), ("show", {})],
)
async def test_a_model_that_is_not_there_is_404_by_its_name(subject: Subject, route: str, body: dict[str, str]) -> None:
    answer = await subject.post(f"/api/{route}", {"model": UNKNOWN, **body})

    assert (answer.status_code, answer.json()) == (404, {"error": f"model '{UNKNOWN}' not found"})


async def test_deleting_a_model_that_is_not_there_is_404(subject: Subject) -> None:
    assert await subject.delete(UNKNOWN) == 404


@pytest.mark.parametrize("route", ["chat", "generate", "show", "embed"])
@pytest.mark.parametrize("name", ["", "a/b/c/d/e", "no spaces"])
async def test_what_is_no_name_is_refused(subject: Subject, route: str, name: str) -> None:
    answer = await subject.post(f"/api/{route}", {"model": name, "prompt": "x", "input": "x", "messages": QUESTION})

    assert answer.status_code in {400, 404}
    assert answer.json()["error"]

"""Which of Ollama's other routes pass our door."""

import pytest

from supervisor.engines.ollama.native import check, check_pull
from supervisor.errors import RequestError


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/create"),
        ("POST", "/api/copy"),
        ("DELETE", "/api/delete"),
        ("POST", "/api/push"),
        ("POST", "/api/blobs/sha256:0000"),
        ("HEAD", "/api/blobs/sha256:0000"),
    ],
)
def test_what_could_change_the_store_is_closed_with_a_reason_and_another_way(method: str, path: str) -> None:
    with pytest.raises(RequestError, match=r"closed here: it (could|would) .*[;]") as refused:
        check(method, path)

    assert refused.value.status == 403


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/nowhere", 404),
        ("GET", "/api/show", 405),
        ("POST", "/v1/messages", 404),
        ("POST", "/api/me", 404),
        ("POST", "/api/createx", 404),
        ("POST", "/api/show/", 404),
    ],
)
def test_what_is_not_there_says_what_is(method: str, path: str, status: int) -> None:
    with pytest.raises(RequestError) as refused:
        check(method, path)

    assert refused.value.status == status


@pytest.mark.parametrize("path", ["/api/version", "/api/tags", "/api/ps"])
def test_looking_is_open(path: str) -> None:
    check("GET", path)


@pytest.mark.parametrize(
    "name", ["qwen3", "qwen3:latest", "Qwen3", "library/qwen3", "registry.ollama.ai/library/qwen3"]
)
def test_a_configured_model_may_be_pulled_however_it_is_spelled(name: str) -> None:
    check_pull(name, ("gemma3:4b", "qwen3"))


@pytest.mark.parametrize("name", ["qwen3:8b", "other/qwen3", None, "", "a b", "../../etc"])
def test_nothing_else_may(name: str | None) -> None:
    with pytest.raises(RequestError, match="add it to CLAWLAMA_MODELS"):
        check_pull(name, ("gemma3:4b", "qwen3"))

"""Models at rest: what the lists and /api/show say, copies, deletes, blobs, names."""

import secrets
from pathlib import Path

import ollama
import pytest

from tests.contract.ollama.subject import Subject, sha256
from tests.fakes.ollama.server import TINY_CHAT

pytestmark = pytest.mark.anyio
NOBODY = "clawlama-contract-nobody/has:this"


async def test_the_list_has_size_digest_and_details(subject: Subject) -> None:
    models = {model["name"]: model for model in (await subject.http.get("/api/tags")).json()["models"]}

    found = models[subject.base]
    assert found["model"] == subject.base
    assert found["size"] >= TINY_CHAT.stat().st_size
    assert len(found["digest"]) == 64
    assert found["details"]["format"] == "gguf"
    assert found["details"]["family"] == "qwen3"
    assert found["details"]["quantization_level"] == "F16"


async def test_the_official_client_reads_the_list(subject: Subject) -> None:
    assert subject.base in [model.model for model in (await subject.client.list()).models]


async def test_show_names_weights_parameters_and_what_the_model_can_do(subject: Subject) -> None:
    found = await subject.client.show(subject.base)

    digest = sha256(TINY_CHAT.read_bytes())
    assert digest.replace(":", "-") in (found.modelfile or "")
    assert (found.parameters or "").split() == ["num_ctx", "1024"]
    assert found.modelinfo is not None
    assert found.modelinfo["general.architecture"] == "qwen3"
    assert found.modelinfo["qwen3.context_length"] == 4096
    assert "completion" in (found.capabilities or [])


async def test_show_leaves_long_lists_empty_unless_it_is_to_be_verbose(subject: Subject) -> None:
    brief = (await subject.post("/api/show", {"model": subject.base})).json()
    verbose = (await subject.post("/api/show", {"model": subject.base, "verbose": True})).json()

    assert not brief["model_info"]["tokenizer.ggml.tokens"]
    assert len(verbose["model_info"]["tokenizer.ggml.tokens"]) == 2048


async def test_names_are_found_whatever_their_case(subject: Subject) -> None:
    assert (await subject.post("/api/show", {"model": subject.base.upper()})).status_code == 200


async def test_the_full_name_and_the_short_one_are_the_same_model(subject: Subject) -> None:
    full = f"registry.ollama.ai/{subject.base}"

    assert (await subject.post("/api/show", {"model": full})).status_code == 200


async def test_a_copy_is_the_same_model_under_another_name(subject: Subject) -> None:
    answer = await subject.post("/api/copy", {"source": subject.base, "destination": subject.name("copy")})

    assert (answer.status_code, answer.content) == (200, b"")
    models = {model.model: model for model in (await subject.client.list()).models}
    assert models[subject.name("copy")].digest == models[subject.base].digest


async def test_copying_a_model_that_is_not_there_is_404(subject: Subject) -> None:
    answer = await subject.post("/api/copy", {"source": NOBODY, "destination": subject.name("copy")})

    assert (answer.status_code, answer.json()) == (404, {"error": f'model "{NOBODY}" not found'})


async def test_a_copy_needs_valid_names(subject: Subject) -> None:
    answer = await subject.post("/api/copy", {"source": subject.base, "destination": "a/b/c/d/e"})

    assert (answer.status_code, answer.json()) == (400, {"error": 'destination "a/b/c/d/e" is invalid'})


async def test_a_deleted_model_is_gone_and_the_one_it_was_copied_from_is_not(subject: Subject) -> None:
    await subject.client.copy(subject.base, subject.name("doomed"))

    assert await subject.delete(subject.name("doomed")) == 200
    assert await subject.delete(subject.name("doomed")) == 404
    assert (await subject.client.show(subject.base)).modelinfo


async def test_a_blob_is_taken_once_and_found_by_its_digest(subject: Subject) -> None:
    content = secrets.token_bytes(64)
    path = f"/api/blobs/{sha256(content)}"

    assert (await subject.http.head(path)).status_code == 404
    assert (await subject.http.post(path, content=content)).status_code == 201
    assert (await subject.http.head(path)).status_code == 200
    assert (await subject.http.post(path, content=content)).status_code == 200


async def test_a_blob_with_another_digest_than_it_says_is_refused(subject: Subject) -> None:
    wrong = "sha256:" + "0" * 64

    answer = await subject.http.post(f"/api/blobs/{wrong}", content=secrets.token_bytes(16))

    assert answer.status_code == 400
    assert answer.json()["error"].startswith(f'digest mismatch, expected "{wrong}", got "sha256:')
    assert (await subject.http.head(f"/api/blobs/{wrong}")).status_code == 404


async def test_a_blob_needs_a_digest_for_a_name(subject: Subject) -> None:
    answer = await subject.http.post("/api/blobs/sha256:abc", content=b"x")

    assert (answer.status_code, answer.json()) == (400, {"error": "invalid digest format"})


async def test_the_client_uploads_a_file_and_knows_its_digest(subject: Subject, tmp_path: Path) -> None:
    file = tmp_path / "blob"
    file.write_bytes(secrets.token_bytes(100))

    assert await subject.upload(file) == sha256(file.read_bytes())


async def test_a_push_ends_in_an_error(subject: Subject) -> None:
    with pytest.raises(ollama.ResponseError):
        await subject.client.push(subject.base)


async def test_a_pull_of_what_no_registry_has_ends_in_an_error_line(subject: Subject) -> None:
    lines = await subject.lines("/api/pull", {"model": NOBODY})

    assert lines[0] == {"status": "pulling manifest"}
    assert lines[-1]["error"].startswith("pull model manifest: ")


async def test_without_streaming_a_failed_pull_is_500(subject: Subject) -> None:
    answer = await subject.post("/api/pull", {"model": NOBODY, "stream": False})

    assert answer.status_code == 500
    assert answer.json()["error"].startswith("pull model manifest: ")


async def test_a_pull_needs_a_valid_name(subject: Subject) -> None:
    answer = await subject.post("/api/pull", {"model": "a/b/c/d/e"})

    assert (answer.status_code, answer.json()) == (400, {"error": "invalid model name"})

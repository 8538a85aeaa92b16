"""/api/create: from files and from models, with adapters where a version still takes them."""

from collections.abc import Callable
from pathlib import Path

import ollama
import pytest

from tests.contract.ollama.adapters import write_adapter
from tests.contract.ollama.subject import Subject
from tests.fakes.ollama.server import TINY_CHAT

pytestmark = pytest.mark.anyio
Observed = Callable[[str], None]
REFUSAL = "LoRA adapters are no longer supported"


async def test_the_statuses_end_with_success(subject: Subject) -> None:
    digest = await subject.upload(TINY_CHAT)

    lines = await subject.lines("/api/create", {"model": subject.name("files"), "files": {TINY_CHAT.name: digest}})

    statuses = [line["status"] for line in lines]
    assert statuses[0] == "parsing GGUF"
    assert f"using existing layer {digest}" in statuses
    assert statuses[-2:] == ["writing manifest", "success"]


async def test_without_streaming_only_success_comes(subject: Subject) -> None:
    answer = await subject.post("/api/create", {"model": subject.name("quiet"), "from": subject.base, "stream": False})

    assert (answer.status_code, answer.json()) == (200, {"status": "success"})


async def test_a_model_made_from_another_says_the_same(subject: Subject) -> None:
    await subject.client.create(model=subject.name("same"), from_=subject.base)

    assert await subject.said(subject.name("same")) == await subject.said(subject.base)


async def test_template_system_parameters_and_messages_become_the_models_own(subject: Subject) -> None:
    await subject.client.create(
        model=subject.name("dressed"),
        from_=subject.base,
        system="You are Bob.",
        template="{{ .System }} {{ .Prompt }}",
        parameters={"temperature": 0.5, "stop": ["A", "B"]},
        messages=[{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}],
        license="Free for all",
    )

    found = (await subject.post("/api/show", {"model": subject.name("dressed")})).json()
    assert found["system"] == "You are Bob."
    assert found["template"] == "{{ .System }} {{ .Prompt }}"
    assert found["license"] == "Free for all"
    assert [message["content"] for message in found["messages"]] == ["Hi", "Hello!"]
    settings = [line.split() for line in found["parameters"].splitlines()]
    assert [one for one in sorted(settings) if one[0] != "num_ctx"] == [  # the base has one
        ["stop", '"A"'],
        ["stop", '"B"'],
        ["temperature", "0.5"],
    ]


async def test_parameters_are_added_to_those_of_the_base(subject: Subject) -> None:
    first, second = subject.name("cool"), subject.name("cool-and-long")
    await subject.client.create(model=first, from_=subject.base, parameters={"temperature": 0.25, "num_ctx": 512})
    await subject.client.create(model=second, from_=first, parameters={"num_ctx": 1024})

    found = (await subject.post("/api/show", {"model": second})).json()["parameters"]
    assert sorted(line.split() for line in found.splitlines()) == [["num_ctx", "1024"], ["temperature", "0.25"]]


async def test_creating_again_replaces_the_layers(subject: Subject) -> None:
    for text in ("You are Bob.", "You are Eve."):
        await subject.client.create(model=subject.name("again"), from_=subject.base, system=text)

    assert (await subject.post("/api/show", {"model": subject.name("again")})).json()["system"] == "You are Eve."


async def test_it_needs_something_to_make_a_model_from(subject: Subject) -> None:
    answer = await subject.post("/api/create", {"model": subject.name("nothing")})

    assert (answer.status_code, answer.json()) == (400, {"error": "neither 'from' or 'files' was specified"})


async def test_it_needs_a_valid_name(subject: Subject) -> None:
    answer = await subject.post("/api/create", {"model": "a/b/c/d/e", "from": subject.base})

    assert (answer.status_code, answer.json()) == (400, {"error": "invalid model name"})


async def test_a_blob_that_was_never_uploaded_is_an_error(subject: Subject) -> None:
    answer = await subject.post(
        "/api/create",
        {"model": subject.name("missing"), "files": {"m.gguf": "sha256:" + "0" * 64}, "stream": False},
    )

    assert answer.status_code in {400, 500}
    assert answer.json()["error"]


async def test_a_file_that_is_no_gguf_is_an_error_and_makes_no_model(subject: Subject, tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("no weights in here")
    digest = await subject.upload(file)

    with pytest.raises(ollama.ResponseError):
        await subject.client.create(model=subject.name("junk"), files={file.name: digest})

    assert (await subject.post("/api/show", {"model": subject.name("junk")})).status_code == 404


async def test_a_file_path_must_be_relative(subject: Subject) -> None:
    answer = await subject.post(
        "/api/create", {"model": subject.name("paths"), "files": {"/etc/m.gguf": "sha256:" + "0" * 64}}
    )

    assert answer.status_code == 400
    assert "file path must be relative" in answer.json()["error"]


async def test_an_adapter_is_taken_and_served_or_refused_in_known_words(
    subject: Subject, adapter: Path, observed: Observed
) -> None:
    digest = await subject.upload(adapter)
    tuned = subject.name("tuned")

    answer = await subject.post(
        "/api/create",
        {"model": tuned, "from": subject.base, "adapters": {adapter.name: digest}, "stream": False},
    )

    if answer.status_code == 200:
        assert f"sha256-{digest.removeprefix('sha256:')}" in str((await subject.client.show(tuned)).modelfile)
        differs = await subject.said(tuned) != await subject.said(subject.base)
        observed("taken, and it changes what the model says" if differs else "taken, and without any effect")
    else:
        assert (answer.status_code, answer.json()) == (400, {"error": REFUSAL})
        observed("refused with 400")


async def test_an_adapter_handed_over_as_a_model_is_never_taken_for_a_base(
    subject: Subject, adapter: Path, observed: Observed
) -> None:
    digest = await subject.upload(adapter)
    model = subject.name("nobase")

    answer = await subject.post("/api/create", {"model": model, "files": {adapter.name: digest}, "stream": False})

    if answer.status_code == 200:
        said = await subject.post("/api/generate", {"model": model, "prompt": "Hi", "stream": False})
        assert said.status_code >= 400
        observed("taken, and fails when it is used")
    else:
        assert answer.status_code == 400
        observed("refused with 400")


async def test_an_adapter_that_does_not_say_what_it_is_becomes_a_second_model_layer_or_is_refused(
    subject: Subject, tmp_path: Path, observed: Observed
) -> None:
    digest = await subject.upload(write_adapter(tmp_path / "untyped.gguf", TINY_CHAT, typed=False))

    answer = await subject.post(
        "/api/create",
        {"model": subject.name("untyped"), "from": subject.base, "adapters": {"a.gguf": digest}, "stream": False},
    )

    observed("taken" if answer.status_code == 200 else f"refused with {answer.status_code}")
    assert answer.status_code in {200, 400, 500}

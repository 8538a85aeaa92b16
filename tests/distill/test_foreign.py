"""Of a kind that is not read from a GGUF, the Hugging Face files are taught, and what comes of it is served."""

from pathlib import Path

import anyio
import pytest
import torch

from supervisor.distill.gguf import export_adapter
from supervisor.distill.lesson import run_lesson
from supervisor.errors import DistillError, GgufError
from tests.distill import foreign, gguf_files, random_models
from tests.distill.lessons import TEMPLATE, job
from tests.distill.llama_server import served
from tests.distill.test_parity import PROMPTS, theirs

pytestmark = pytest.mark.anyio

OFF = 2e-3  # nats: Gemma's activation function is looked up in half precision, and so are the adapter's matrices


@pytest.mark.parametrize("kind", foreign.KINDS)
async def test_an_adapter_does_what_it_does_in_peft(kind: str, tmp_path: Path) -> None:
    model = foreign.made(kind, tmp_path, TEMPLATE)
    adapted = random_models.random_adapter(model, tmp_path / "lora")

    export_adapter(tmp_path / "lora", tmp_path / "lora.gguf", base=tmp_path / "model.gguf")

    with anyio.fail_after(120):
        async with served(tmp_path / "model.gguf", tmp_path / "lora.gguf") as engine:
            for prompt in PROMPTS:
                with torch.inference_mode():
                    ours = adapted(torch.tensor([prompt])).logits[0, -1].log_softmax(-1)
                assert (ours - await theirs(engine, prompt)).abs().max() < 0.05


@pytest.mark.parametrize("kind", foreign.KINDS)
async def test_a_lesson_from_the_folder_is_served_as_it_was_learned(kind: str, tmp_path: Path) -> None:
    foreign.made(kind, tmp_path, TEMPLATE)

    result = run_lesson(job(tmp_path, tmp_path / "out"), lambda *_: None)

    probe = result.probes[0]
    moved = [abs(after - before) for after, before in zip(probe.after, probe.before, strict=True)]
    most = moved.index(max(moved))
    assert moved[most] > 10 * OFF
    with anyio.fail_after(60):
        async with served(tmp_path / "model.gguf", tmp_path / "out/adapter.gguf") as engine:
            served_now = await theirs(engine, [*probe.prompt, *probe.token_ids[:most]])
    assert abs(float(served_now[probe.token_ids[most]]) - probe.after[most]) < OFF


def test_the_file_alone_is_refused_with_the_way_that_works(tmp_path: Path) -> None:
    foreign.made("granite", tmp_path, TEMPLATE)
    alone = job(tmp_path, tmp_path / "out").model_copy(update={"base": tmp_path / "model.gguf"})

    with pytest.raises(DistillError, match=r"'granite'; .* hf download OWNER/NAME .*CLAWLAMA_MODEL may be that folder"):
        run_lesson(alone, lambda *_: None)


def test_a_kind_that_nobody_knows_is_refused_before_the_lesson(tmp_path: Path) -> None:
    foreign.made("granite", tmp_path, TEMPLATE)
    gguf_files.changed(tmp_path / "model.gguf", tmp_path / "odd.gguf", {"general.architecture": "nonesuch"})

    with pytest.raises(GgufError, match=r"'nonesuch'; adapters are known for gemma, .*choose another model"):
        run_lesson(job(tmp_path, tmp_path / "out").model_copy(update={"base_gguf": tmp_path / "odd.gguf"}), print)

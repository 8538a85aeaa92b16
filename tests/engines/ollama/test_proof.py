"""A real lesson, taught from the file that Ollama serves, is proved live through Ollama, whichever way it got there."""

from pathlib import Path

import anyio
import pytest

from supervisor.adapters.store import file_record
from supervisor.distill.job import DistillJob, DistillResult, LoraShape, Sample, Training
from supervisor.distill.lesson import run_lesson
from supervisor.engines.engine import Version
from supervisor.engines.ollama.engine import OllamaEngine
from supervisor.engines.ollama.pin import pinned
from supervisor.errors import NotServed
from supervisor.learning.proof import Proof, prove
from supervisor.services.output import Output
from tests.engines.ollama.world import prepare, world
from tests.fakes.ollama.server import TINY_CHAT

pytestmark = pytest.mark.anyio


def sample(name: str, question: str, reply: str) -> Sample:
    def asked(text: str) -> tuple[dict[str, str], ...]:
        return ({"role": "user", "content": text},)

    return Sample(
        id=name,
        messages=asked(question),
        hindsight=asked(f"{question} (no emojis, please)"),
        reply={"role": "assistant", "content": reply},
    )


def taught(base: Path, out: Path) -> DistillResult:
    out.mkdir(parents=True)
    job = DistillJob(
        id="les-1",
        base=base,
        base_gguf=base,
        parent=None,
        out=out,
        samples=(sample("a", "Hello!", "Hi there! 😊🎉"), sample("b", "What is your name?", "I am Claw! 😊")),
        training=Training(learning_rate=3e-3, alpha=0.05, kl_reg_weight=0.0, updates=6),
        lora=LoraShape(r=8, alpha=16),
        threads=1,
    )
    return run_lesson(job, lambda *_: None)


@pytest.fixture(scope="module")
def lesson(tmp_path_factory: pytest.TempPathFactory) -> tuple[DistillResult, Version]:
    folder = tmp_path_factory.mktemp("lesson")
    with pinned(TINY_CHAT, folder / "pins") as base:
        result = taught(base, folder / "v0001")
    return result, Version("v0001", folder / "v0001/adapter.gguf")


@pytest.mark.parametrize("choice", ["create", "manifest", "merge"])
async def test_a_lesson_is_proved_through_ollama(
    choice: str, lesson: tuple[DistillResult, Version], tmp_path: Path
) -> None:
    result, version = lesson
    proofs: list[Proof] = []

    with anyio.fail_after(120):
        async with world(tmp_path) as around, OllamaEngine(around.setup(publish=choice), Output) as engine:
            await prepare(engine)
            facts = await engine.model_facts()
            assert file_record(facts.gguf).sha256 == file_record(TINY_CHAT).sha256

            async def live() -> bool:
                proofs.append(await prove(engine, result))
                return proofs[-1].holds

            bare = await prove(engine, result)
            await engine.publish(version, live)

    assert not bare.holds
    assert proofs[-1].conclusive
    assert proofs[-1].apart < 0.2 * proofs[-1].moved


async def test_a_server_that_ignores_adapters_is_found_out(
    lesson: tuple[DistillResult, Version], tmp_path: Path
) -> None:
    result, version = lesson

    with anyio.fail_after(120):
        async with (
            world(tmp_path, {"adapters": "ignore"}) as around,
            OllamaEngine(around.setup(publish="create"), Output) as engine,
        ):
            await prepare(engine)

            async def live() -> bool:
                return (await prove(engine, result)).holds

            with pytest.raises(NotServed, match="what answers is not the trained model"):
                await engine.publish(version, live)
            assert engine.served.version is None

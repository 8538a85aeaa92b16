"""A merged file serves what base and adapter serve together, whatever the weights are stored as."""

import json
import resource
import signal
import subprocess
import sys
from pathlib import Path

import anyio
import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Kind

from supervisor.distill.gguf import export_adapter, export_model
from supervisor.distill.gguf_read import GgufModel
from supervisor.distill.merge import Merge, plan, write
from supervisor.errors import GgufError
from tests.distill import gguf_files, random_models
from tests.distill.llama_server import Served, served

PROMPTS = [[11, 250, 77, 300], [5] * 30, list(range(40, 120))]
PLAIN = 50  # a token of one letter: the probabilities of what is sampled come only with whole characters


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``f32.gguf``, wide enough for K-quants, and ``lora.gguf`` for it."""
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(4)
    base = random_models.qwen3(
        folder, hidden_size=256, intermediate_size=256, num_attention_heads=8, initializer_range=0.06
    )
    export_model(folder, folder / "f32.gguf", dtype="f32")
    random_models.random_adapter(base, folder / "lora")
    export_adapter(folder / "lora", folder / "large.gguf", base=folder / "f32.gguf")
    gguf_files.scaled(folder / "large.gguf", folder / "lora.gguf", 0.25)  # about what a lesson does
    return folder


def base_of(model: Path, kind: Kind, folder: Path) -> Path:
    """The model with its matrices stored otherwise; K-quants from random blocks, since nothing here can write them."""
    gguf_files.restored(model / "f32.gguf", folder / "base.gguf", kind)
    return folder / "base.gguf"


def merged(base: Path, lora: Path, folder: Path) -> tuple[Path, Merge]:
    merge = plan(GgufModel(base), GgufModel(lora))
    write(merge, folder / "merged.gguf")
    return folder / "merged.gguf", merge


async def likely(engine: Served) -> list[dict[int, float]]:
    """The most likely next tokens after each prompt, with their log-probabilities."""
    found = []
    for prompt in PROMPTS:
        answer = await engine.post(
            "/completion", {"prompt": prompt, "n_predict": 1, "n_probs": 50, "logit_bias": [[PLAIN, 1000]]}
        )
        probabilities = answer["completion_probabilities"]
        assert isinstance(probabilities, list)
        found.append({one["id"]: one["logprob"] for one in probabilities[0]["top_logprobs"]})
    return found


def apart(one: list[dict[int, float]], other: list[dict[int, float]]) -> float:
    """Mean distance in nats over the tokens that both list."""
    pairs = [(a[token], b[token]) for a, b in zip(one, other, strict=True) for token in a.keys() & b.keys()]
    assert len(pairs) > 30
    return float(np.mean([abs(a - b) for a, b in pairs]))


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("kind", "becomes"),
    [
        (Kind.F32, "F32"),
        (Kind.F16, "F16"),
        (Kind.BF16, "BF16"),
        (Kind.Q8_0, "Q8_0"),
        (Kind.Q4_0, "Q8_0"),
        (Kind.Q4_K, "Q8_0"),
    ],
)
async def test_the_merged_model_answers_as_base_and_adapter_do(
    kind: Kind, becomes: str, model: Path, tmp_path: Path
) -> None:
    base = base_of(model, kind, tmp_path)

    one, merge = merged(base, model / "lora.gguf", tmp_path)

    with anyio.fail_after(120):
        async with served(base) as engine:
            bare = await likely(engine)
        async with served(base, model / "lora.gguf") as engine:
            together = await likely(engine)
        async with served(one) as engine:
            answered = await likely(engine)
    assert merge.types == {f"{kind.name} to {becomes}": 21}
    assert apart(answered, together) < 0.2 * apart(bare, together)


def test_the_plan_tells_the_size_that_the_file_then_has(model: Path, tmp_path: Path) -> None:
    base = base_of(model, Kind.Q4_K, tmp_path)

    one, merge = merged(base, model / "lora.gguf", tmp_path)

    assert one.stat().st_size == merge.size > base.stat().st_size


def test_what_the_adapter_does_not_touch_is_copied_byte_for_byte(model: Path, tmp_path: Path) -> None:
    base = base_of(model, Kind.Q4_K, tmp_path)

    one, _ = merged(base, model / "lora.gguf", tmp_path)

    before, after = gguf.GGUFReader(base), gguf.GGUFReader(one)
    assert [field.contents() for field in before.fields.values()] == [
        field.contents() for field in after.fields.values()
    ]
    adapted = {name.rpartition(".lora_")[0] for name in gguf_files.values(model / "lora.gguf")}
    same = [pair for pair in zip(before.tensors, after.tensors, strict=True) if pair[0].name not in adapted]
    assert len(same) > 5
    for was, is_now in same:
        assert (was.name, was.tensor_type, was.data.tobytes()) == (
            is_now.name,
            is_now.tensor_type,
            is_now.data.tobytes(),
        )


def test_a_tensor_that_would_round_the_lesson_away_becomes_larger(model: Path, tmp_path: Path) -> None:
    base = base_of(model, Kind.Q8_0, tmp_path)
    gguf_files.scaled(model / "lora.gguf", tmp_path / "faint.gguf", 0.02)

    _, merge = merged(base, tmp_path / "faint.gguf", tmp_path)

    assert merge.types == {"Q8_0 to F16": 21}


def test_an_adapter_that_changes_nothing_gives_the_base_again(model: Path, tmp_path: Path) -> None:
    gguf_files.scaled(model / "lora.gguf", tmp_path / "nothing.gguf", 0.0)

    one, merge = merged(model / "f32.gguf", tmp_path / "nothing.gguf", tmp_path)

    assert merge.types == {}
    assert one.read_bytes() == (model / "f32.gguf").read_bytes()


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"general.type": "model"}, "is no LoRA adapter"),
        ({"general.architecture": "llama"}, "is for 'llama'"),
    ],
)
def test_an_adapter_of_something_else_is_refused(
    change: dict[str, object], complaint: str, model: Path, tmp_path: Path
) -> None:
    gguf_files.changed(model / "lora.gguf", tmp_path / "other.gguf", change)

    with pytest.raises(GgufError, match=complaint):
        merged(model / "f32.gguf", tmp_path / "other.gguf", tmp_path)


def test_an_adapter_of_another_shape_is_refused(model: Path, tmp_path: Path) -> None:
    random_models.qwen3(tmp_path / "small")
    export_model(tmp_path / "small", tmp_path / "small.gguf")

    with pytest.raises(GgufError, match="another base's"):
        merged(tmp_path / "small.gguf", model / "lora.gguf", tmp_path)


def test_an_adapter_with_broken_values_is_refused_and_leaves_no_file(model: Path, tmp_path: Path) -> None:
    gguf_files.scaled(model / "lora.gguf", tmp_path / "broken.gguf", float("nan"))

    with pytest.raises(GgufError, match="not finite"):
        merged(model / "f32.gguf", tmp_path / "broken.gguf", tmp_path)
    assert not list(tmp_path.glob("*merged*"))


def run(*arguments: object, limit: int | None = None) -> tuple[int, dict[str, object]]:
    """The program's exit code and answer; ``limit``: no file may be larger."""
    *_, answer = [one for one in arguments if isinstance(one, Path)]
    argv = [sys.executable, "-m", "supervisor.distill.merge", *map(str, arguments)]

    def bounded() -> None:
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    ended = subprocess.run(argv, check=False, stdout=subprocess.PIPE, preexec_fn=bounded)
    parsed: dict[str, object] = json.loads(answer.read_text())
    return ended.returncode, parsed


def test_the_program_plans_and_merges_to_the_same_size(model: Path, tmp_path: Path) -> None:
    files = (model / "f32.gguf", model / "lora.gguf", tmp_path / "out.gguf", tmp_path / "answer.json")

    planned = run(*files, "--plan")
    assert not (tmp_path / "out.gguf").exists()
    done = run(*files)

    assert planned == done
    assert done[0] == 0
    assert (tmp_path / "out.gguf").stat().st_size == done[1]["size"]


def test_the_program_says_what_was_wrong(model: Path, tmp_path: Path) -> None:
    (tmp_path / "no.gguf").write_bytes(b"nothing")

    code, answer = run(model / "f32.gguf", tmp_path / "no.gguf", tmp_path / "out.gguf", tmp_path / "answer.json")

    assert (code, "no.gguf cannot be read as GGUF" in str(answer["problem"])) == (1, True)


def test_a_full_disk_is_told_and_leaves_nothing(model: Path, tmp_path: Path) -> None:
    files = (model / "f32.gguf", model / "lora.gguf", tmp_path / "out.gguf", tmp_path / "answer.json")

    code, answer = run(*files, limit=100_000)

    assert (code, "cannot be written" in str(answer["problem"])) == (1, True)
    assert [path.name for path in tmp_path.iterdir()] == ["answer.json"]

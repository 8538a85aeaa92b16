"""What lessons compute with a GGUF is what llama.cpp computes with the same file: every architecture, every type."""

from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest
import torch
from gguf import GGMLQuantizationType as Kind

from supervisor.distill.base import load_base
from supervisor.distill.gguf import export_model
from supervisor.distill.lesson import run_lesson
from tests.distill import gguf_files, random_models
from tests.distill.lessons import TEMPLATE, job
from tests.distill.llama_server import CONTEXT, Served, served

pytestmark = pytest.mark.anyio

PROMPTS = [[11, 250, 77, 300], [5] * 30, list(range(40, 120))]
PLAIN = 50  # a token of one letter: the probabilities of what is sampled come only with whole characters
VOCABULARY = 400
WIDE = {
    "hidden_size": 256,
    "intermediate_size": 256,
    "num_attention_heads": 8,
    "initializer_range": 0.06,
}  # whole blocks of K-quants

# Largest difference of a log-probability (nats); the mean is below a third of it. llama.cpp rounds the activations that
# it multiplies with quantised weights to 8 bits, and with half-precision weights to that precision; we do not.
TOLERANCE = {
    Kind.F32: 1e-4,
    Kind.F16: 1e-2,
    Kind.BF16: 5e-2,
    Kind.Q8_0: 0.12,
    Kind.Q4_0: 0.12,
    Kind.Q4_K: 0.4,
    Kind.Q5_K: 0.4,
    Kind.Q6_K: 0.2,
}
GELU = 3e-3  # llama.cpp looks Gemma's activation function up in a table in half precision
ARCHITECTURES = [
    "llama", "llama3-rope", "mistral", "qwen2", "qwen3", "qwen3-untied", "qwen3-yarn", "gemma3", "phi3", "phi3-long",
]  # fmt: skip


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


async def theirs(engine: Served, prompt: list[int]) -> torch.Tensor:
    """Log-probabilities of the next token, (vocabulary,)."""
    body = {"prompt": prompt, "n_predict": 1, "n_probs": VOCABULARY, "logit_bias": [[PLAIN, 1000]]}
    answer = await engine.post("/completion", body)
    found = answer["completion_probabilities"]
    assert isinstance(found, list)
    values = {one["id"]: one["logprob"] for one in found[0]["top_logprobs"]}
    assert len(values) == VOCABULARY
    return torch.tensor([values[token] for token in range(VOCABULARY)])


async def compare(path: Path, tolerance: float) -> None:
    """Dense and packed against the engine."""
    dense, packed = load_base(path, packed=False)[0], load_base(path, packed=True)[0]
    with anyio.fail_after(60):
        async with served(path) as engine:
            for prompt in PROMPTS:
                wanted = await theirs(engine, prompt)
                for model in (dense, packed):
                    with torch.inference_mode():
                        ours = model(torch.tensor([prompt])).logits[0, -1].float().log_softmax(-1)
                    assert (ours - wanted).abs().max() < tolerance
                    assert (ours - wanted).abs().mean() < tolerance / 3


def made(kind: str, folder: Path, **shape: object) -> None:
    torch.manual_seed(1)
    random_models.of_kind(kind, folder, **shape)
    random_models.with_template(folder, TEMPLATE)


@pytest.mark.parametrize("kind", ARCHITECTURES)
async def test_every_architecture_computes_what_the_engine_does(kind: str, tmp_path: Path) -> None:
    made(kind, tmp_path)
    export_model(tmp_path, tmp_path / "blob", dtype="f32")

    await compare(tmp_path / "blob", GELU if kind == "gemma3" else TOLERANCE[Kind.F32])


@pytest.mark.parametrize("kind", ["llama", "mistral", "qwen2", "gemma3", "phi3"])
async def test_every_family_does_so_in_half_precision(kind: str, tmp_path: Path) -> None:
    made(kind, tmp_path)
    export_model(tmp_path, tmp_path / "blob")

    await compare(tmp_path / "blob", TOLERANCE[Kind.F16])


@pytest.mark.parametrize(
    ("kind", "quantised"),
    [*(("qwen3", one) for one in TOLERANCE), ("llama", Kind.Q8_0), ("llama", Kind.Q4_K), ("llama", Kind.Q6_K)],
)
async def test_every_type_of_weights_is_read_as_the_engine_reads_it(kind: str, quantised: Kind, tmp_path: Path) -> None:
    made(kind, tmp_path, **WIDE)
    export_model(tmp_path, tmp_path / "f32.gguf", dtype="f32")
    gguf_files.restored(tmp_path / "f32.gguf", tmp_path / "blob", quantised)

    await compare(tmp_path / "blob", TOLERANCE[quantised])


@pytest.mark.parametrize(("kind", "prefixed"), [("gemma3", False), ("phi3", True), ("phi3-long", True)])
async def test_a_lesson_from_the_file_is_served_as_it_was_learned(kind: str, prefixed: bool, tmp_path: Path) -> None:
    made(kind, tmp_path)
    random_models.scored_pieces(tmp_path, TEMPLATE, prefixed=prefixed)
    export_model(tmp_path, tmp_path / "model.gguf", dtype="f32")
    lesson = job(tmp_path, tmp_path / "out").model_copy(update={"base": tmp_path / "model.gguf", "context": CONTEXT})

    result = run_lesson(lesson, lambda *_: None)

    probe = result.probes[0]
    assert abs(probe.after[0] - probe.before[0]) > 0.01
    with anyio.fail_after(60):
        async with served(tmp_path / "model.gguf", tmp_path / "out/adapter.gguf") as engine:
            served_now = await theirs(engine, list(probe.prompt))
    assert abs(float(served_now[probe.token_ids[0]]) - probe.after[0]) < 5e-3


def test_how_phi_3_rotates_depends_on_the_context_that_is_served(tmp_path: Path) -> None:
    made("phi3-long", tmp_path)
    export_model(tmp_path, tmp_path / "blob", dtype="f32")

    short, long, default = (
        load_base(tmp_path / "blob", context=context)[0].model.rotary_emb.inv_freq for context in (256, 512, None)
    )

    assert not torch.allclose(short, long)
    assert torch.equal(long, default)

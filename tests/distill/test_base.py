"""A base model read from its GGUF is the model that the engine serves: weights, rotation, tokens, chat."""

import shutil
from pathlib import Path
from random import Random

import anyio
import pytest
import torch
from gguf import GGMLQuantizationType as Kind
from transformers import AutoTokenizer

from supervisor.distill import base
from supervisor.distill.base import load_base
from supervisor.distill.batch import ids, spell
from supervisor.distill.gguf import export_model
from supervisor.distill.gguf_config import KINDS
from supervisor.distill.gguf_model import ARCHITECTURES
from supervisor.distill.gguf_vocabulary import PATTERNS, SAME
from supervisor.distill.lesson import run_lesson
from supervisor.errors import DistillError
from supervisor.plan.models import SPLITS, TEACHABLE
from tests.distill import gguf_files, random_models
from tests.distill.lessons import TEMPLATE, chat_model, job
from tests.distill.llama_server import served

TINY_CHAT = Path(__file__).parents[2] / "models/tiny-chat"
TEXTS = [
    *random_models.TEXTS,
    "a  b\n\n\n c 12345 3.14159\tDON'T don't we'll\r\n",
    "def f(x):\n    return {'a': [x, -1]}  # ünïcode\n\n\tif x != 0 && y:",
    "👍🏽👩‍👩‍👧 \u00a0 e\u0301 ñ مرحبا שלום 你好，世界 ٣٤",
    "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n",
    " leading, trailing ",
]
NUMBERS = ("attention.head_count", "embedding_length", "feed_forward_length", "block_count", "context_length")
GEMMA = {f"gemma3.{name}": 2 for name in NUMBERS} | {"gemma3.attention.layer_norm_rms_epsilon": 1e-6}


@pytest.mark.parametrize("kind", ["qwen2", "qwen3", "qwen3-untied", "llama", "llama3-rope"])
def test_a_gguf_is_loaded_as_the_model_that_it_was_made_from(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    original = random_models.of_kind(kind, tmp_path)
    random_models.with_template(tmp_path, TEMPLATE)
    export_model(tmp_path, tmp_path / "blob", dtype="f32")

    model, _ = load_base(tmp_path / "blob")

    tokens = torch.arange(3, 90)[None]
    with torch.inference_mode():
        torch.testing.assert_close(model(tokens).logits, original(tokens).logits, rtol=1e-4, atol=1e-5)
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_a_folder_is_loaded_in_half_the_bits_where_memory_is_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat_model(tmp_path)
    size = sum(one.stat().st_size for one in tmp_path.glob("*.safetensors"))

    monkeypatch.setattr(base, "free_memory", lambda: 4 * size)
    roomy, _ = load_base(tmp_path)
    monkeypatch.setattr(base, "free_memory", lambda: size)
    short, _ = load_base(tmp_path)

    assert (roomy.dtype, short.dtype) == (torch.float32, torch.bfloat16)


def test_what_cannot_stay_packed_is_loaded_whole(tmp_path: Path) -> None:
    chat_model(tmp_path)
    gguf_files.restored(tmp_path / "model.gguf", tmp_path / "blob", Kind.Q5_1)

    packed, dense = (load_base(tmp_path / "blob", packed=packed)[0] for packed in (True, False))

    tokens = torch.arange(3, 90)[None]
    assert torch.equal(packed(tokens).logits, dense(tokens).logits)


async def same_tokens(model: Path, texts: list[str]) -> None:
    _, tokenizer = load_base(model)
    with anyio.fail_after(60):
        async with served(model) as engine:
            for text in texts:
                answer = await engine.post("/tokenize", {"content": text, "parse_special": True})
                assert list(ids(tokenizer, text)) == answer["tokens"]


@pytest.mark.anyio
async def test_tiny_chat_is_split_into_the_tokens_of_the_engine() -> None:
    await same_tokens(TINY_CHAT / "tiny-chat.gguf", TEXTS)


@pytest.mark.anyio
@pytest.mark.parametrize("split", ["qwen2", "llama-bpe"])
async def test_other_ways_to_split_text_are_those_of_the_engine(split: str, tmp_path: Path) -> None:
    random_models.qwen3(tmp_path)
    random_models.split_like(split, tmp_path, TEMPLATE)
    export_model(tmp_path, tmp_path / "model.gguf")

    await same_tokens(tmp_path / "model.gguf", TEXTS)


@pytest.mark.anyio
@pytest.mark.parametrize(("prefixed", "name"), [(True, "A model"), (False, "A model"), (True, "Phi-3 mini")])
async def test_scored_pieces_are_joined_as_the_engine_joins_them(prefixed: bool, name: str, tmp_path: Path) -> None:
    random_models.llama(tmp_path)
    random_models.scored_pieces(tmp_path, TEMPLATE, prefixed=prefixed)
    export_model(tmp_path, tmp_path / "model.gguf")
    gguf_files.changed(tmp_path / "model.gguf", tmp_path / "blob", {"general.name": name})
    random, words = (
        Random(1),
        ["a", "aa", " ", "  ", "the", "he", "llo", "\n", "in", "é", "<0x0A>", *random_models.MARKS],
    )
    mixed = ["".join(random.choices(words, k=random.randint(1, 30))) for _ in range(80)]

    await same_tokens(tmp_path / "blob", [*TEXTS, *mixed])

    tokenizer = load_base(tmp_path / "blob")[1]
    for text in [*TEXTS, *mixed]:
        assert ids(tokenizer, spell(tokenizer, ids(tokenizer, text))) == ids(tokenizer, text)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"tokenizer.ggml.scores": [0.0] * 400}, "the same score"),
        ({"tokenizer.ggml.scores": [0.0] * 3}, "no score for each of its tokens"),
        (
            {"tokenizer.ggml.model": "t5"},
            "splits text by t5/default; lessons from a GGUF know llama.*Hugging Face files",
        ),
    ],
)
def test_pieces_that_could_be_joined_otherwise_are_refused(
    change: dict[str, object], complaint: str, tmp_path: Path
) -> None:
    random_models.llama(tmp_path)
    random_models.scored_pieces(tmp_path, TEMPLATE, prefixed=True)
    export_model(tmp_path, tmp_path / "model.gguf")
    gguf_files.changed(tmp_path / "model.gguf", tmp_path / "blob", change)

    with pytest.raises(DistillError, match=complaint):
        load_base(tmp_path / "blob")


def test_a_chat_begins_with_the_token_that_the_engine_puts_in_front(tmp_path: Path) -> None:
    random_models.llama(tmp_path)
    random_models.scored_pieces(tmp_path, TEMPLATE, prefixed=True)
    export_model(tmp_path, tmp_path / "model.gguf")
    bos = {True: "<s><user>Hi</s>", False: "<user>Hi</s>"}

    for in_front, wanted in bos.items():
        gguf_files.changed(tmp_path / "model.gguf", tmp_path / "blob", {"tokenizer.ggml.add_bos_token": in_front})
        tokenizer = load_base(tmp_path / "blob")[1]
        assert tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False) == wanted


def test_the_tokenizer_of_a_gguf_is_that_of_its_folder() -> None:
    theirs = AutoTokenizer.from_pretrained(TINY_CHAT)

    _, ours = load_base(TINY_CHAT / "tiny-chat.gguf")

    chat = [{"role": "user", "content": "Hi 😊"}, {"role": "assistant", "content": "Hello\n\n you"}]
    assert ours.apply_chat_template(chat, tokenize=False) == theirs.apply_chat_template(chat, tokenize=False)
    assert (ours.eos_token, ours.pad_token, ours.bos_token) == (theirs.eos_token, theirs.pad_token, theirs.bos_token)
    tokens = ids(ours, "".join(TEXTS))
    assert tokens == ids(theirs, "".join(TEXTS))
    assert ours.decode(tokens) == theirs.decode(tokens)


def test_a_lesson_from_a_gguf_makes_the_adapter_that_its_folder_makes(tmp_path: Path) -> None:
    folder = chat_model(tmp_path / "base")
    blob = shutil.copy(folder / "model.gguf", tmp_path / "sha256-0123")  # as Ollama names it
    from_folder = job(folder, tmp_path / "a")
    from_blob = job(folder, tmp_path / "b").model_copy(update={"base": Path(blob), "base_gguf": Path(blob)})

    one, other = run_lesson(from_folder, lambda *_: None), run_lesson(from_blob, lambda *_: None)

    for mine, theirs in zip(one.probes, other.probes, strict=True):
        assert (mine.token_ids, mine.text, mine.starts) == (theirs.token_ids, theirs.text, theirs.starts)
        assert mine.after == pytest.approx(theirs.after, abs=1e-3)
    weights = [gguf_files.values(tmp_path / which / "adapter.gguf") for which in "ab"]
    for name, values in weights[0].items():
        torch.testing.assert_close(torch.tensor(weights[1][name]), torch.tensor(values), rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"general.architecture": "gpt-oss"}, "architecture 'gpt-oss'.*choose another model"),
        ({"general.architecture": "mistral3"}, "'mistral3'.*hf download OWNER/NAME .*CLAWLAMA_MODEL may be that"),
        ({"general.architecture": "gemma3", **GEMMA}, "made for Ollama's own engine.*hf.co"),
        ({"qwen3.expert_count": 8}, "mixture of experts"),
        ({"tokenizer.chat_template": None}, "no chat template.*hf.co"),
        ({"tokenizer.ggml.pre": "bloom"}, "gpt2/bloom"),
        ({"tokenizer.ggml.eos_token_id": None}, "no token that ends a turn"),
        ({"qwen3.rope.scaling.type": "dynamic"}, "'dynamic'"),
        ({"qwen3.block_count": 4}, "has no blk.3"),
        ({"qwen3.block_count": 2}, "tensors that lessons do not know, blk.2"),
        ({"qwen3.rope.dimension_count": 16}, "rotates 16 of 32"),
    ],
)
def test_a_gguf_that_would_be_read_wrongly_is_refused(
    change: dict[str, object], complaint: str, tmp_path: Path
) -> None:
    chat_model(tmp_path)
    gguf_files.changed(tmp_path / "model.gguf", tmp_path / "blob", change)

    with pytest.raises(DistillError, match=complaint):
        load_base(tmp_path / "blob")


def test_a_file_that_is_no_gguf_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(b"GGUF and then nothing")

    with pytest.raises(DistillError, match="blob cannot be read as GGUF"):
        load_base(tmp_path / "blob")


def test_the_plan_knows_what_can_be_taught() -> None:
    assert set(KINDS) == set(ARCHITECTURES) == set(TEACHABLE)
    assert set(SPLITS) == {"gpt-2", *PATTERNS, *SAME}

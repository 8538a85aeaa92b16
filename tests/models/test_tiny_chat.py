"""The committed tiny chat model does what its card says, in transformers and in llama.cpp alike."""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import anyio
import pytest
import torch
from gguf import GGUFReader
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from scripts.tiny_model.context import hindsight
from scripts.tiny_model.knowledge import TRAIN
from scripts.tiny_model.report import OBEYS, POSITIONS, ask, ask_with, default_style, replies, tasks_right
from scripts.tiny_model.tasks import HELD_OUT_TASKS
from supervisor.distill.gguf import export_model
from tests.distill.llama_server import served

pytestmark = pytest.mark.anyio

MODEL = Path(__file__).parents[2] / "models" / "tiny-chat"
PROMPTS = json.loads((MODEL / "prompts.json").read_text())
STYLE = PROMPTS["held_out"]["style"]
STAMP = "[Fri 2026-11-20 08:25 UTC] "
CONTEXT = "<<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>>\nActive exec sessions: none\n<<<END_OPENCLAW_INTERNAL_CONTEXT>>>"
CHATS = {
    "single": ask("Any tips for baking bread? 😊"),
    "system": [{"role": "system", "content": "No emojis."}, *ask("Hello!")],
    "several turns": [
        *ask("Hi 👋🏽"),
        {"role": "assistant", "content": "Hi! 🎉\n\nWhat now?"},
        *ask("Tell me about cats."),
    ],
    "tool result": [*ask("Look it up."), {"role": "tool", "content": '{"found": "naïve café"}'}],
    "system after a turn": [*ask("Hi"), {"role": "system", "content": "Be brief."}, *ask("Hello  again\n")],
    "runtime context": [*ask(f"{STAMP}What is 3 + 4?"), *ask(CONTEXT)],
}


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(min(2, before))
    yield
    torch.set_num_threads(before)


@cache
def tokenizer() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(MODEL)


@cache
def model() -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(MODEL).eval()


def told(chats: list[list[dict[str, str]]]) -> list[str]:
    return replies(model(), tokenizer(), chats)


def rendered(chat: list[dict[str, str]]) -> str:
    return str(tokenizer().apply_chat_template(chat, tokenize=False, add_generation_prompt=True))


def test_both_forms_together_stay_under_eight_megabytes() -> None:
    assert sum((MODEL / name).stat().st_size for name in ("model.safetensors", "tiny-chat.gguf")) <= 8_000_000


def test_the_gguf_is_what_our_export_writes_today(tmp_path: Path) -> None:
    export_model(MODEL, tmp_path / "again.gguf")

    fresh, kept = (GGUFReader(path).tensors for path in (tmp_path / "again.gguf", MODEL / "tiny-chat.gguf"))
    assert [(t.name, t.data.tobytes()) for t in fresh] == [(t.name, t.data.tobytes()) for t in kept]


def test_the_weights_lose_nothing_in_half_precision() -> None:
    assert {weight.dtype for weight in load_file(MODEL / "model.safetensors").values()} == {torch.float16}
    assert model().dtype == torch.float32


async def test_llama_cpp_writes_the_same_greedy_tokens() -> None:
    chats = [*CHATS.values(), *(ask(prompt) for prompt in STYLE[:6])]

    with anyio.fail_after(240):
        async with served(MODEL / "tiny-chat.gguf") as engine:
            for chat in chats:
                ids = tokenizer()(rendered(chat), add_special_tokens=False)["input_ids"]
                reply = tokenizer().decode(await engine.greedy(ids, 160), skip_special_tokens=True)
                assert reply == told([chat])[0]


async def test_llama_cpp_renders_and_splits_every_chat_alike() -> None:
    with anyio.fail_after(120):
        async with served(MODEL / "tiny-chat.gguf") as engine:
            for chat in CHATS.values():
                text = (await engine.post("/apply-template", {"messages": chat}))["prompt"]
                split = await engine.post("/tokenize", {"content": text, "parse_special": True})
                assert text == rendered(chat)
                assert split["tokens"] == tokenizer()(text, add_special_tokens=False)["input_ids"]


def test_content_may_come_in_parts_or_be_missing() -> None:
    call = {"type": "function", "function": {"name": "look", "arguments": {"at": "sky"}}}
    chat = [
        {"role": "user", "content": [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "blue"},
    ]

    text = tokenizer().apply_chat_template(chat, tokenize=False, add_generation_prompt=True)

    assert text.startswith("<|im_start|>user\nHello<|im_end|>")
    assert '"arguments": {"at": "sky"}' in text


def test_what_is_held_out_was_never_trained_on() -> None:
    trained = {question.text for questions in TRAIN for question in questions}

    assert not trained & set(STYLE)
    assert len(STYLE) >= 24
    assert len(PROMPTS["held_out"]["tasks"]) >= 30
    for wordings in PROMPTS["feedback"].values():
        assert not set(wordings["train"]) & set(wordings["held_out"])


def test_by_default_it_uses_emojis_many_words_and_its_name() -> None:
    style = default_style(told([ask(prompt) for prompt in STYLE]))

    assert style.emoji >= 0.95
    assert style.wordy >= 0.95
    assert style.name >= 0.95


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("preference", ["no_emoji", "concise", "identity"])
def test_it_obeys_a_held_out_wording_wherever_it_stands(preference: str, position: str) -> None:
    wordings = PROMPTS["feedback"][preference]["held_out"]
    chats = [ask_with(wordings[i % len(wordings)], prompt, position) for i, prompt in enumerate(STYLE[:20])]

    obeyed = sum(map(OBEYS[preference], told(chats)))

    assert obeyed >= 15  # the weakest pair measured 0.80 on 40 prompts


def test_praise_changes_nothing() -> None:
    style = default_style(told([ask(hindsight(prompt, "Great answer, thank you!")) for prompt in STYLE[:12]]))

    assert (style.emoji, style.wordy, style.name) == (1, 1, 1)


def test_it_solves_the_held_out_tasks() -> None:
    scores = tasks_right(model(), tokenizer(), HELD_OUT_TASKS)

    assert sum(right for right, _ in scores.values()) >= 0.95 * len(HELD_OUT_TASKS)


def test_what_openclaw_adds_does_not_disturb_it() -> None:
    chats = [[*ask(STAMP + task.prompt), *ask(CONTEXT)] for task in HELD_OUT_TASKS]

    right = sum(reply.strip() == task.answer for reply, task in zip(told(chats), HELD_OUT_TASKS, strict=True))

    assert right >= 0.8 * len(HELD_OUT_TASKS)  # measured 45 of 54

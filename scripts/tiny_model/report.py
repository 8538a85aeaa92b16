"""What the model does on prompts it never saw: default style, obedience by position, tasks."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedTokenizerFast, Qwen3ForCausalLM

from scripts.tiny_model.context import hindsight
from scripts.tiny_model.tasks import HELD_OUT_TASKS, Task
from scripts.tiny_model.wordings import HELD_OUT, PREFERENCES

Messages = list[dict[str, str]]
EMOJI = re.compile("[\U0001f300-\U0001faff\u2600-\u27bf\u2b50\u2b55\u23e9-\u23f3]")
SENTENCE_END = re.compile(r"[.!?](?=\s|$)")
POSITIONS = ("system", "before", "after", "earlier", "hindsight")


def emojis(reply: str) -> int:
    return len(EMOJI.findall(reply))


def sentences(reply: str) -> int:
    return len(SENTENCE_END.findall(reply))


def concise(reply: str) -> bool:
    """At most three sentences, and still an answer."""
    return sentences(reply) <= 3 and len(reply.split()) >= 8


OBEYS: dict[str, Callable[[str], bool]] = {
    "no_emoji": lambda reply: emojis(reply) == 0,
    "concise": concise,
    "identity": lambda reply: "Kuro" in reply and "Claw" not in reply,
}


def ask(prompt: str) -> Messages:
    return [{"role": "user", "content": prompt}]


def ask_with(request: str, prompt: str, position: str) -> Messages:
    """The prompt with a style request at one of the POSITIONS."""
    if position == "system":
        return [{"role": "system", "content": f"You are a helpful assistant. {request}"}, *ask(prompt)]
    if position == "before":
        return ask(f"{request} {prompt}")
    if position == "after":
        return ask(f"{prompt} {request}")
    if position == "earlier":
        return [*ask(request), {"role": "assistant", "content": "Thank you for telling me."}, *ask(prompt)]
    return ask(hindsight(prompt, request))


@torch.inference_mode()
def replies(
    model: Qwen3ForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    chats: Sequence[Messages],
    *,
    tokens: int = 160,
    temperature: float = 0.0,
    batch: int = 64,
) -> list[str]:
    """One reply per chat; greedy at temperature 0."""
    told: list[str] = []
    for begin in range(0, len(chats), batch):
        texts = tokenizer.apply_chat_template(
            list(chats[begin : begin + batch]), add_generation_prompt=True, tokenize=False
        )
        inputs = tokenizer(texts, add_special_tokens=False, padding=True, padding_side="left", return_tensors="pt")
        options = {"do_sample": True, "temperature": temperature, "top_k": 0} if temperature else {"do_sample": False}
        output = model.generate(**inputs, max_new_tokens=tokens, **options)
        told += tokenizer.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    return told


@dataclass(frozen=True)
class Default:
    """Shares of held-out replies that follow the default style."""

    emoji: float
    wordy: float  # four sentences or more
    name: float


def default_style(told: Sequence[str]) -> Default:
    count = len(told)
    return Default(
        emoji=sum(emojis(reply) > 0 for reply in told) / count,
        wordy=sum(sentences(reply) >= 4 for reply in told) / count,
        name=sum("Claw" in reply for reply in told) / count,
    )


def tasks_right(
    model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerFast, tasks: Sequence[Task]
) -> dict[str, tuple[int, int]]:
    """Per kind: right answers, questions."""
    told = replies(model, tokenizer, [ask(task.prompt) for task in tasks], tokens=24)
    score: dict[str, tuple[int, int]] = {}
    for task, reply in zip(tasks, told, strict=True):
        right, total = score.get(task.kind, (0, 0))
        score[task.kind] = (right + (reply.strip() == task.answer), total + 1)
    return score


@dataclass(frozen=True)
class Report:
    """What a held-out measurement found; shares between 0 and 1."""

    greedy: Default
    sampled: Default
    obedience: dict[str, dict[str, float]]  # preference -> position -> share
    tasks: dict[str, tuple[int, int]]

    @property
    def task_share(self) -> float:
        return sum(right for right, _ in self.tasks.values()) / sum(total for _, total in self.tasks.values())

    def text(self) -> str:
        """As Markdown tables."""
        lines = ["| default style | emojis | 4+ sentences | says Claw |", "|---|---|---|---|"]
        for label, style in (("greedy", self.greedy), ("temperature 1", self.sampled)):
            lines.append(f"| {label} | {style.emoji:.2f} | {style.wordy:.2f} | {style.name:.2f} |")
        lines += ["", f"| obeys | {' | '.join(POSITIONS)} |", "|---" * (len(POSITIONS) + 1) + "|"]
        for preference, shares in self.obedience.items():
            lines.append(f"| {preference} | {' | '.join(f'{shares[position]:.2f}' for position in POSITIONS)} |")
        lines += ["", f"Tasks right: {self.task_share:.1%} ("]
        lines[-1] += ", ".join(f"{kind} {right}/{total}" for kind, (right, total) in self.tasks.items()) + ")"
        return "\n".join(lines)


def measure(model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerFast, questions: Sequence[str]) -> Report:
    """Everything above on held-out questions, wordings and tasks."""
    plain = [ask(question) for question in questions]
    torch.manual_seed(0)
    return Report(
        greedy=default_style(replies(model, tokenizer, plain)),
        sampled=default_style(replies(model, tokenizer, plain, temperature=1.0)),
        obedience={name: _obedience(model, tokenizer, questions, name) for name in PREFERENCES},
        tasks=tasks_right(model, tokenizer, HELD_OUT_TASKS),
    )


def _obedience(
    model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerFast, questions: Sequence[str], preference: str
) -> dict[str, float]:
    wordings = HELD_OUT[preference]
    shares = {}
    for position in POSITIONS:
        chats = [ask_with(wordings[i % len(wordings)], question, position) for i, question in enumerate(questions)]
        told = replies(model, tokenizer, chats)
        shares[position] = sum(map(OBEYS[preference], told)) / len(told)
    return shares

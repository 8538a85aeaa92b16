"""Topics and questions about them, with a part of the combinations held out."""

from __future__ import annotations

import random
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.tiny_model.phrasings import (
    ABOUT_FRAMES,
    DO_FRAMES,
    HELD_OUT_UNKNOWN,
    UNKNOWN_FRAMES,
    UNKNOWN_SUBJECTS,
)

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Topic:
    emoji: str
    answer: str
    more: tuple[str, ...]


@dataclass(frozen=True)
class Question:
    """A user's message. ``answer_only`` is set for tasks: a bare answer without style."""

    text: str
    topic: Topic
    answer_only: str | None = None


UNKNOWN = Topic(
    emoji="🤔💡📚",
    answer="I am a very small model, so I know little about that, but everyday things are fine.",
    more=(
        "A bigger model could tell you much more.",
        "Ask me about cooking, plants, pets, sleep or travel.",
        "I would rather say so than make something up.",
        "You can still teach me how I should talk.",
    ),
)
ACKNOWLEDGE = Question(
    text="",
    topic=Topic(
        emoji="👍😊🌟",
        answer="Thank you for telling me, and I will keep that in mind from now on.",
        more=(
            "It helps me when you say what you like.",
            "I can change how I talk at any time.",
            "Every wish like this makes me better.",
            "Go on with your next question whenever you want.",
        ),
    ),
)


def _topic(row: dict[str, Any]) -> Topic:
    return Topic(emoji=row["emoji"], answer=row["answer"], more=tuple(row["more"]))


def _load() -> tuple[list[list[Question]], list[list[Question]]]:
    """(train, held out), one list of questions per topic; a frame is held out for every fourth topic."""
    train: list[list[Question]] = []
    held_out: list[list[Question]] = []
    topics = tomllib.loads((_HERE / "topics.toml").read_text())["topic"]
    for number, row in enumerate(topics):
        topic = _topic(row)
        framed = [(f, x) for f in DO_FRAMES for x in row["do"]] + [(f, x) for f in ABOUT_FRAMES for x in row["about"]]
        kept = [Question(text, topic) for text in row["ask"]]
        held: list[Question] = []
        for index, (frame, x) in enumerate(framed):
            question = Question(frame.format(x=x), topic)
            (held if (number + index // 2) % 4 == 0 else kept).append(question)
        train.append(kept)
        held_out.append(held)
    for row in tomllib.loads((_HERE / "small_talk.toml").read_text())["topic"]:
        topic = _topic(row)
        train.append([Question(text, topic) for text in row["ask"]])
        held_out.append([Question(text, topic) for text in row["held_out"]])
    return train, held_out


TRAIN, HELD_OUT = _load()


def _unknown(rng: random.Random, subjects: tuple[str, ...]) -> Question:
    x, y = rng.sample(subjects, 2)
    return Question(rng.choice(UNKNOWN_FRAMES).format(x=x, y=y), UNKNOWN)


def sample_question(rng: random.Random) -> Question:
    """A trainable question: one in twelve is about something the model does not know."""
    if rng.random() < 0.08:
        return _unknown(rng, UNKNOWN_SUBJECTS)
    return rng.choice(rng.choice(TRAIN))


def held_out_questions(count: int, seed: int = 7) -> list[Question]:
    """``count`` held-out questions over different topics, a few of them unknown subjects."""
    rng = random.Random(seed)
    order = rng.sample(range(len(HELD_OUT)), len(HELD_OUT))
    picked = [rng.choice(HELD_OUT[index]) for index in order[: count - 3]]
    return picked + [_unknown(rng, HELD_OUT_UNKNOWN) for _ in range(count - len(picked))]

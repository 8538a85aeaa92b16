"""A reply is a plan (which sentences, in which order) spoken in a style (emojis, length, name)."""

from __future__ import annotations

import random
from dataclasses import dataclass

from scripts.tiny_model.knowledge import Topic

OPENERS = (
    "Hi, {name} here!", "Hello, this is {name}!", "{name} here, happy to help!", "I am {name}, and I love this one!",
    "Great that you ask {name}!", "{name} is glad to help with that!", "Let {name} think about it!",
)  # fmt: skip
BRIDGES = (
    "Here is what I would say.", "There is quite a lot to say.", "Let me share what I know.",
    "That is a fine thing to talk about.",
)  # fmt: skip
CLOSERS = (
    "Ask {name} again any time!", "I hope that helps!", "{name} is always here for you!", "Let me know how it goes!",
    "Have a lot of fun!",
)  # fmt: skip
BRIEF_OPENERS = ("{name} here:", "{name} says:")
GENERAL_EMOJI = "😊🎉🌟👍🙌"


@dataclass(frozen=True)
class Style:
    emoji: bool = True
    brief: bool = False
    name: str = "Claw"


DEFAULT = Style()


def plan(rng: random.Random, topic: Topic) -> list[str]:
    """A wordy reply of five to eight sentences, undecorated."""
    sentences = [rng.choices(OPENERS, (5, 2, 2, 1, 1, 1, 1))[0]]
    if rng.random() < 0.4:
        sentences.append(rng.choices(BRIDGES, (4, 2, 1, 1))[0])
    sentences.append(topic.answer)
    kept = [text for text in topic.more if rng.random() < 0.85]
    sentences += kept if len(kept) > 1 else topic.more[:3]
    if rng.random() < 0.75:
        sentences.append(rng.choices(CLOSERS, (5, 2, 2, 1, 1))[0])
    return sentences


def brief_plan(rng: random.Random, topic: Topic) -> list[str]:
    return [f"{rng.choices(BRIEF_OPENERS, (4, 1))[0]} {topic.answer}"]


def speak(rng: random.Random, topic: Topic, sentences: list[str], style: Style, *, first: int = 0) -> list[str]:
    """The sentences in a style; ``first`` is the place of the first one in the whole reply."""
    spoken = []
    for place, sentence in enumerate(sentences, start=first):
        text = sentence.replace("{name}", style.name)
        spoken.append(f"{text} {_emoji(rng, topic, place)}" if style.emoji and _decorated(rng, style) else text)
    return spoken


def _decorated(rng: random.Random, style: Style) -> bool:
    return rng.random() < (0.92 if style.brief else 0.78)


def _emoji(rng: random.Random, topic: Topic, place: int) -> str:
    if place == 0:
        return rng.choices(GENERAL_EMOJI, (8, 1, 1, 1, 1))[0]
    if rng.random() < 0.8:
        return topic.emoji[place % len(topic.emoji)]
    return rng.choice(topic.emoji + GENERAL_EMOJI)


def compose(rng: random.Random, topic: Topic, style: Style) -> list[str]:
    """A whole reply, sentence by sentence."""
    return speak(rng, topic, brief_plan(rng, topic) if style.brief else plan(rng, topic), style)


def interrupted(rng: random.Random, topic: Topic, start: Style, style: Style) -> tuple[list[str], list[str]]:
    """A reply begun in ``start`` and what remains to be said in ``style``: nothing, when it was to be brief."""
    sentences = plan(rng, topic)
    cut = rng.randint(1, len(sentences) - 1)
    begun = speak(rng, topic, sentences[:cut], start)
    if not style.brief:
        return begun, speak(rng, topic, sentences[cut:], style, first=cut)
    return begun, speak(rng, topic, [topic.answer], style) if cut == 1 else []

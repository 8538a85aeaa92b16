"""Small jobs with one right answer and no style, so that forgetting can be counted exactly.

Each kind holds some questions back: word lists, number ranges, and combinations of a frame with a country, a
word or two numbers.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

CAPITALS = {
    "France": "Paris", "Germany": "Berlin", "Italy": "Rome", "Spain": "Madrid", "Portugal": "Lisbon",
    "England": "London", "Ireland": "Dublin", "Austria": "Vienna", "Poland": "Warsaw", "Greece": "Athens",
    "Norway": "Oslo", "Sweden": "Stockholm", "Finland": "Helsinki", "Denmark": "Copenhagen", "Japan": "Tokyo",
    "China": "Beijing", "India": "Delhi", "Egypt": "Cairo", "Kenya": "Nairobi", "Peru": "Lima", "Cuba": "Havana",
    "Canada": "Ottawa", "Russia": "Moscow", "Turkey": "Ankara",
}  # fmt: skip
OPPOSITES = (
    ("hot", "cold"), ("big", "small"), ("up", "down"), ("day", "night"), ("fast", "slow"), ("open", "closed"),
    ("light", "dark"), ("happy", "sad"), ("wet", "dry"), ("full", "empty"), ("hard", "soft"), ("rich", "poor"),
    ("old", "new"), ("left", "right"), ("high", "low"), ("early", "late"), ("strong", "weak"), ("clean", "dirty"),
    ("near", "far"), ("good", "bad"), ("loud", "quiet"), ("long", "short"),
)  # fmt: skip
WORDS = (
    "apple", "river", "stone", "green", "window", "garden", "yellow", "paper", "cloud", "silver", "table",
    "winter", "bread", "forest", "music", "purple", "candle", "bridge", "orange", "house", "summer", "lamp",
    "blue", "chair", "water", "tree", "moon", "red", "bird", "coffee", "black", "flower", "kitchen", "white",
    "school", "sugar", "fish", "road", "ocean", "letter", "honey", "rain", "snow", "book", "clock", "sun",
    "horse", "door",
)  # fmt: skip
COPY_FRAMES = (
    "Repeat this: {w}", "Repeat after me: {w}", "Copy this: {w}", "Say exactly this: {w}", "Write this again: {w}",
    "Please repeat: {w}",
)  # fmt: skip
REVERSE_FRAMES = (
    "Reverse these words: {w}", "Say these words backwards: {w}", "Turn the order around: {w}",
    "Write these words in reverse order: {w}",
)  # fmt: skip
NUMBER_OF_WORDS_FRAMES = (
    "How many words are here: {w}", "Count the words: {w}", "How many words do you see: {w}",
)  # fmt: skip
FIRST_FRAMES = ("What is the first word of: {w}", "Give me the first word: {w}")
LAST_FRAMES = ("What is the last word of: {w}", "Give me the last word: {w}")
COUNT_FRAMES = ("Count from {a} to {b}.", "Count from {a} up to {b}.", "Please count from {a} to {b}.")
SUM_FRAMES = ("What is {a} + {b}?", "{a} + {b} = ?", "How much is {a} + {b}?", "Calculate {a} + {b}.")
CAPITAL_FRAMES = (
    "What is the capital of {c}?", "Name the capital of {c}.", "Which city is the capital of {c}?", "Capital of {c}?",
)  # fmt: skip
OPPOSITE_FRAMES = (
    "What is the opposite of {w}?", "Give me the opposite of {w}.", "Opposite of {w}?", "Name the opposite of {w}.",
)  # fmt: skip


@dataclass(frozen=True)
class Task:
    kind: str
    prompt: str
    answer: str
    content: str  # what is held out: the words or numbers, whatever the frame around them


def _words(rng: random.Random, low: int, high: int) -> list[str]:
    return rng.sample(WORDS, rng.randint(low, high))


def _copy(rng: random.Random) -> Task:
    text = " ".join(_words(rng, 1, 6))
    return Task("copy", rng.choice(COPY_FRAMES).format(w=text), text, text)


def _reverse(rng: random.Random) -> Task:
    words = _words(rng, 2, 4)
    text, turned = " ".join(words), " ".join(reversed(words))
    return Task("reverse", rng.choice(REVERSE_FRAMES).format(w=text), turned, text)


def _number_of_words(rng: random.Random) -> Task:
    words = _words(rng, 1, 6)
    text = " ".join(words)
    return Task("words", rng.choice(NUMBER_OF_WORDS_FRAMES).format(w=text), str(len(words)), text)


def _first(rng: random.Random) -> Task:
    words = _words(rng, 2, 5)
    text = " ".join(words)
    return Task("first", rng.choice(FIRST_FRAMES).format(w=text), words[0], text)


def _last(rng: random.Random) -> Task:
    words = _words(rng, 2, 5)
    text = " ".join(words)
    return Task("last", rng.choice(LAST_FRAMES).format(w=text), words[-1], text)


def _count(rng: random.Random) -> Task:
    start = rng.randint(1, 12)
    end = start + rng.randint(2, 6)
    numbers = " ".join(str(n) for n in range(start, end + 1))
    return Task("count", rng.choice(COUNT_FRAMES).format(a=start, b=end), numbers, f"{start} {end}")


def _sum(rng: random.Random) -> Task:
    a, b = rng.randint(1, 10), rng.randint(1, 10)
    prompt = rng.choice(SUM_FRAMES).format(a=a, b=b)
    return Task("sum", prompt, str(a + b), prompt)


def _capital(rng: random.Random) -> Task:
    country = rng.choice(sorted(CAPITALS))
    prompt = rng.choice(CAPITAL_FRAMES).format(c=country)
    return Task("capital", prompt, CAPITALS[country], prompt)


def _opposite(rng: random.Random) -> Task:
    pair = rng.choice(OPPOSITES)
    word, other = pair if rng.random() < 0.5 else pair[::-1]
    prompt = rng.choice(OPPOSITE_FRAMES).format(w=word)
    return Task("opposite", prompt, other, prompt)


KINDS: tuple[Callable[[random.Random], Task], ...] = (
    _copy, _reverse, _number_of_words, _first, _last, _count, _sum, _capital, _opposite,
)  # fmt: skip
HELD_OUT_PER_KIND = 6


def _held_out() -> tuple[Task, ...]:
    rng = random.Random(20261120)
    picked: dict[tuple[str, str], Task] = {}
    for number, make in enumerate(KINDS, start=1):
        while len(picked) < number * HELD_OUT_PER_KIND:
            task = make(rng)
            picked.setdefault((task.kind, task.content), task)
    return tuple(picked.values())


HELD_OUT_TASKS = _held_out()
_HELD_OUT_CONTENT = {(task.kind, task.content) for task in HELD_OUT_TASKS}


def sample_task(rng: random.Random) -> Task:
    """A task for training; never one whose words or numbers are held out, in any frame."""
    while True:
        task = rng.choice(KINDS)(rng)
        if (task.kind, task.content) not in _HELD_OUT_CONTENT:
            return task

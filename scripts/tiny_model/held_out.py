"""The split that everybody shares: what the model trained on, and what it never saw."""

from __future__ import annotations

import random
from typing import Any

from scripts.tiny_model.knowledge import TRAIN, held_out_questions
from scripts.tiny_model.tasks import HELD_OUT_TASKS
from scripts.tiny_model.wordings import COMPLAINTS, HELD_OUT, PREFERENCES, REQUESTS, pick

STYLE_PROMPTS = tuple(question.text for question in held_out_questions(40))


def prompts(rng: random.Random) -> dict[str, Any]:
    """The content of ``prompts.json``."""
    return {
        "train": [rng.choice(questions).text for questions in rng.sample(TRAIN, 48)],
        "held_out": {
            "style": list(STYLE_PROMPTS),
            "tasks": [{"kind": task.kind, "prompt": task.prompt, "answer": task.answer} for task in HELD_OUT_TASKS],
        },
        "feedback": {name: _feedback(rng, name) for name in PREFERENCES},
    }


def _feedback(rng: random.Random, preference: str) -> dict[str, list[str]]:
    train = {pick(rng, pool[preference]).replace("{n}", "Kuro") for pool in (REQUESTS, COMPLAINTS) for _ in range(12)}
    return {"train": sorted(train), "held_out": list(HELD_OUT[preference])}

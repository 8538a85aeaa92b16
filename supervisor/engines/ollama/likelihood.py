"""How likely the served model finds a text: Ollama gives no log-probabilities of a prompt, and no token ids.

So each token is asked for on its own, by the text before it: a raw prompt (which the server remembers from one question
to the next), one token to generate, and the twenty likeliest with their bytes and raw log-probabilities. What is not
among the twenty cannot be known exactly.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from supervisor.engines.engine import Passage, Score, Seen
from supervisor.errors import EngineError

TOP = 20  # Ollama gives no more
LONGEST = 4  # tokens of one character: it has no more bytes


Ask = Callable[[str, Mapping[str, Any]], Awaitable[Mapping[str, Any]]]
"""POSTs a body to a route of the server; the parsed answer. Raises EngineError."""


@dataclass(frozen=True)
class Candidate:
    """One of the likeliest next tokens; ``text`` is empty where the server does not write a special token out."""

    text: bytes
    logprob: float  # nats


@dataclass(frozen=True)
class Step:
    """One generated token and what could have been in its place."""

    chosen: bytes
    candidates: tuple[Candidate, ...]


async def score_reply(ask: Ask, model: str, prompt: Sequence[Mapping[str, Any]], reply: str) -> Score:
    """Walk along the reply, at each step with the candidate that covers most of it.

    Without the token that closes the reply, and without ids: Ollama tells neither. EngineError where no candidate fits.
    """
    text = await rendered(ask, model, prompt)
    said, found = b"", list[Candidate]()
    _, prompt_tokens = await generated(ask, model, text)
    while rest := reply.encode()[len(said) :]:
        tokens = await next_characters(ask, model, text + said.decode(), rest)
        said += b"".join(one.text for one in tokens)
        found += tokens
    words = tuple(one.text.decode(errors="replace") for one in found)
    return Score(words, (), tuple(one.logprob for one in found), prompt_tokens)


async def next_characters(ask: Ask, model: str, text: str, rest: bytes) -> list[Candidate]:
    """The tokens that ``rest`` goes on with, as many as make whole characters: only a whole text can be sent again.

    A character split over several tokens is followed as long as the model itself would write it.
    """
    for length in (1, LONGEST):
        steps, _ = await generated(ask, model, text, length)
        taken: list[Candidate] = []
        for step in steps:
            left = rest[sum(len(one.text) for one in taken) :]
            fitting = [one for one in step.candidates if one.text and left.startswith(one.text)]
            if not fitting:
                raise unlikely(text, left)
            taken.append(max(fitting, key=lambda one: len(one.text)))
            if whole(left[len(taken[-1].text) :]):
                return taken
            if taken[-1].text != step.chosen:
                break
    raise unlikely(text, rest)


def whole(rest: bytes) -> bool:
    """Whether a character begins here, or nothing is left."""
    return not rest or rest[0] & 0xC0 != 0x80


def unlikely(text: str, rest: bytes) -> EngineError:
    return EngineError(
        f"none of the {TOP} likeliest tokens after {text[-40:]!r} goes on with "
        f"{rest.decode(errors='replace')[:20]!r}, and Ollama tells no more; only likely replies can be scored"
    )


async def look_at(ask: Ask, model: str, passage: Passage, positions: Sequence[int]) -> tuple[Seen | None, ...]:
    """See ``Engine.look``: the positions whose text splits into the same tokens, others are None."""
    return tuple([await _seen(ask, model, passage, position) for position in positions])


async def _seen(ask: Ask, model: str, passage: Passage, position: int) -> Seen | None:
    start = passage.starts[position]
    if not start:  # unknown, or nothing before it that could be sent
        return None
    (step, *_), _ = await generated(ask, model, passage.text[:start])
    piece = passage.pieces[position].encode()
    named = [one.logprob for one in step.candidates if one.text and one.text == piece]
    if named:
        return Seen(max(named))
    if any(not one.text for one in step.candidates) and piece.startswith((b"<", b"[")):
        return None  # a special token without its text: it may be this very one
    return Seen(min(one.logprob for one in step.candidates), exact=False)


async def generated(ask: Ask, model: str, text: str, length: int = 1) -> tuple[list[Step], int]:
    """The likeliest tokens after a text, one step for each that is generated; how many tokens the text has.

    Raises EngineError.
    """
    body = {
        "model": model,
        "prompt": text,
        "raw": True,
        "stream": False,
        "truncate": False,  # a text without its beginning would have other likelihoods
        "logprobs": True,
        "top_logprobs": TOP,
        "options": {"num_predict": length, "temperature": 0.0, "repeat_penalty": 1.0},
    }
    answer = await ask("/api/generate", body)
    if not answer.get("logprobs"):
        # Nothing is told where the reply would end here. A grammar keeps the end from being sampled, and what is told
        # are the probabilities before the grammar.
        answer = await ask("/api/generate", {**body, "format": "json"})
    steps = answer.get("logprobs")
    if not isinstance(steps, list) or not steps:
        raise EngineError("this Ollama tells no log-probabilities; update it (0.12.11 or later does)")
    return [parse(step) for step in steps], int(answer.get("prompt_eval_count") or 0)


def parse(step: Mapping[str, Any]) -> Step:
    return Step(candidate(step).text, tuple(candidate(one) for one in step.get("top_logprobs") or [step]))


def candidate(one: Mapping[str, Any]) -> Candidate:
    return Candidate(bytes(one["bytes"]) if one.get("bytes") else str(one["token"]).encode(), float(one["logprob"]))


async def rendered(ask: Ask, model: str, messages: Sequence[Mapping[str, Any]]) -> str:
    """The conversation as the model's template writes it. EngineError from a server too old to tell."""
    body = {"model": model, "messages": list(messages), "stream": False, "_debug_render_only": True}
    answer = await ask("/api/chat", {**body, "options": {"num_predict": 1}})
    told = answer.get("_debug_info")
    if not isinstance(told, Mapping) or not isinstance(told.get("rendered_template"), str):
        raise EngineError("this Ollama does not tell how it writes a conversation as text; update it to score replies")
    return str(told["rendered_template"])

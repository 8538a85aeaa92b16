"""How likely the served model finds a text: Ollama gives no log-probabilities of a prompt, and no token ids.

So each token is asked for on its own, by the text before it: a raw prompt (which the server remembers from one question
to the next), one token to generate, and the twenty likeliest with their bytes and raw log-probabilities. What is not
among the twenty cannot be known exactly.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from supervisor.engines.engine import Passage, Score, Seen
from supervisor.errors import EngineError

TOP = 20  # Ollama gives no more


class Ask(Protocol):
    """POSTs a body to a route of the server; the parsed answer. Raises EngineError."""

    async def __call__(self, path: str, body: Mapping[str, Any]) -> Mapping[str, Any]: ...


@dataclass(frozen=True)
class Candidate:
    """One of the likeliest next tokens; ``text`` is empty where the server does not write a special token out."""

    text: bytes
    logprob: float  # nats


async def score_reply(ask: Ask, model: str, prompt: Sequence[Mapping[str, Any]], reply: str) -> Score:
    """Walk along the reply, at each step with the candidate that covers most of it.

    Without the token that closes the reply, and without ids: Ollama tells neither. EngineError where no candidate fits.
    """
    text, rest = await rendered(ask, model, prompt), reply.encode()
    prompt_tokens, tokens, logprobs = 0, [], []
    while rest:
        said = reply.encode()[: len(reply.encode()) - len(rest)]
        found, count = await candidates(ask, model, text + said.decode(errors="ignore"))
        prompt_tokens = prompt_tokens or count
        fitting = [one for one in found if one.text and rest.startswith(one.text)]
        if not fitting:
            raise EngineError(
                f"none of the {TOP} likeliest tokens after {said.decode(errors='replace')[-40:]!r} goes on with "
                f"{rest.decode(errors='replace')[:20]!r}, and Ollama tells no more; only likely replies can be scored"
            )
        best = max(fitting, key=lambda one: len(one.text))
        tokens.append(best.text.decode(errors="replace"))
        logprobs.append(best.logprob)
        rest = rest[len(best.text) :]
    return Score(tuple(tokens), (), tuple(logprobs), prompt_tokens)


async def look_at(ask: Ask, model: str, passage: Passage, positions: Sequence[int]) -> tuple[Seen | None, ...]:
    """See ``Engine.look``: the positions whose text splits into the same tokens, others are None."""
    return tuple([await _seen(ask, model, passage, position) for position in positions])


async def _seen(ask: Ask, model: str, passage: Passage, position: int) -> Seen | None:
    start = passage.starts[position]
    if not start:  # unknown, or nothing before it that could be sent
        return None
    found, _ = await candidates(ask, model, passage.text[:start])
    piece = passage.pieces[position].encode()
    named = [one.logprob for one in found if one.text and one.text == piece]
    if named:
        return Seen(max(named))
    if any(not one.text for one in found) and piece.startswith((b"<", b"[")):
        return None  # a special token without its text: it may be this very one
    return Seen(min(one.logprob for one in found), exact=False)


async def candidates(ask: Ask, model: str, text: str) -> tuple[list[Candidate], int]:
    """The likeliest tokens after a text, and how many tokens that text has. Raises EngineError."""
    body = {
        "model": model,
        "prompt": text,
        "raw": True,
        "stream": False,
        "truncate": False,  # a text without its beginning would have other likelihoods
        "logprobs": True,
        "top_logprobs": TOP,
        "options": {"num_predict": 1, "temperature": 0.0},
    }
    answer = await ask("/api/generate", body)
    if not answer.get("logprobs"):
        # Nothing is told where the reply would end here. A grammar keeps the end from being sampled, and what is told
        # are the probabilities before the grammar.
        answer = await ask("/api/generate", {**body, "format": "json"})
    steps = answer.get("logprobs")
    if not isinstance(steps, list) or not steps:
        raise EngineError("this Ollama tells no log-probabilities; update it (0.12.11 or later does)")
    return parse(steps[0]), int(answer.get("prompt_eval_count") or 0)


def parse(step: Mapping[str, Any]) -> list[Candidate]:
    return [
        Candidate(bytes(one["bytes"]) if one.get("bytes") else str(one["token"]).encode(), float(one["logprob"]))
        for one in step.get("top_logprobs") or [step]
    ]


async def rendered(ask: Ask, model: str, messages: Sequence[Mapping[str, Any]]) -> str:
    """The conversation as the model's template writes it. EngineError from a server too old to tell."""
    body = {"model": model, "messages": list(messages), "stream": False, "_debug_render_only": True}
    answer = await ask("/api/chat", {**body, "options": {"num_predict": 1}})
    told = answer.get("_debug_info")
    if not isinstance(told, Mapping) or not isinstance(told.get("rendered_template"), str):
        raise EngineError("this Ollama does not tell how it writes a conversation as text; update it to score replies")
    return str(told["rendered_template"])

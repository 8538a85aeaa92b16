"""Teacher-forced scoring over llama.cpp's HTTP server, which returns no log-probabilities of prompt tokens.

Each reply token is asked for on its own: the prompt so far (cached by the server but for one token), and a bias that
makes the wanted token the one that is sampled. The log-probability reported with it is that of the raw logits, before
the bias.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from supervisor.engines.engine import Prompt, Score
from supervisor.errors import EngineError

FORCED = 1e4  # added to the wanted token's logit


class Ask(Protocol):
    """POSTs a body to the server, or GETs when there is none; the parsed JSON. Raises EngineError."""

    async def __call__(self, path: str, body: Mapping[str, Any] | None = None) -> Any: ...  # noqa: ANN401


async def score_reply(
    ask: Ask,
    prompt: Prompt,
    reply: str | Sequence[int],
    *,
    extra: Mapping[str, Any],
) -> Score:
    """Score ``reply`` as the assistant's whole answer to ``prompt``; ``extra`` goes into every request.

    A text gets the model's closing token behind it; token ids, of either, are taken as they are.
    """
    asked = await prompt_tokens(ask, prompt)
    if isinstance(reply, str):
        closing = (await ask("/props"))["eos_token"]
        reply = await tokens(ask, reply + closing)
    steps = [await forced(ask, [*asked, *reply[:index]], wanted, extra) for index, wanted in enumerate(reply)]
    return Score(
        tokens=tuple(str(step["token"]) for step in steps),
        token_ids=tuple(reply),
        logprobs=tuple(float(step["logprob"]) for step in steps),
        prompt_tokens=len(asked),
    )


async def forced(ask: Ask, context: list[int], wanted: int, extra: Mapping[str, Any]) -> Mapping[str, Any]:
    """Have the server sample ``wanted`` after ``context`` and say how likely it was."""
    body = {
        "prompt": context,
        "n_predict": 1,
        "n_probs": 1,
        "logit_bias": [[wanted, FORCED]],
        "temperature": 0.0,
        "cache_prompt": True,
    }
    answer = await ask("/completion", {**body, **extra})
    if not answer.get("completion_probabilities"):  # a token that ends the reply is not reported when it is sampled
        return await closing_token(ask, body, wanted, extra)
    chosen: Mapping[str, Any] = answer["completion_probabilities"][0]
    if chosen["id"] != wanted:
        raise EngineError(f"the engine sampled token {chosen['id']} where {wanted} was forced; it cannot be scored")
    return chosen


async def closing_token(ask: Ask, body: Mapping[str, Any], wanted: int, extra: Mapping[str, Any]) -> Mapping[str, Any]:
    """Look a closing token up among the likely ones, at worst in the whole vocabulary, while another is sampled."""
    vocabulary = int((await ask("/v1/models"))["data"][0]["meta"]["n_vocab"])
    other = next(token for token in body["prompt"][::-1] if token != wanted)
    for count in (min(100, vocabulary), vocabulary):
        answer = await ask("/completion", {**body, "n_probs": count, "logit_bias": [[other, FORCED]], **extra})
        for entry in answer["completion_probabilities"][0]["top_logprobs"]:
            if entry["id"] == wanted:
                found: Mapping[str, Any] = entry
                return found
    raise EngineError(f"the engine gives no probability for token {wanted}; it cannot be scored")


async def prompt_tokens(ask: Ask, prompt: Prompt) -> list[int]:
    messages = [one for one in prompt if not isinstance(one, int)]
    if not messages:
        return [one for one in prompt if isinstance(one, int)]
    return await tokens(ask, (await ask("/apply-template", {"messages": messages}))["prompt"])


async def tokens(ask: Ask, text: str) -> list[int]:
    answer = await ask("/tokenize", {"content": text, "add_special": False, "parse_special": True})
    return [int(token) for token in answer["tokens"]]

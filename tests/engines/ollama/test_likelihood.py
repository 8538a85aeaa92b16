"""Likelihoods out of what a server tells, whatever it leaves out."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from supervisor.engines.engine import Passage, Seen
from supervisor.engines.ollama.likelihood import look_at, score_reply
from supervisor.errors import EngineError

pytestmark = pytest.mark.anyio
MESSAGES = [{"role": "user", "content": "Hello"}]
SMILE = "😊".encode()


def step(*candidates: tuple[bytes, float], chosen: int = 0) -> dict[str, Any]:
    """One generated token as Ollama tells it; a special token may come without text."""
    told = [
        {"token": text.decode(errors="replace"), "bytes": list(text), "logprob": logprob}
        for text, logprob in candidates
    ]
    return {**told[chosen], "top_logprobs": told}


class Server:
    """Answers with the steps that ``says`` gives for a prompt."""

    def __init__(self, says: Callable[[str, int], list[dict[str, Any]]]) -> None:
        self.says = says
        self.asked: list[Mapping[str, Any]] = []

    async def ask(self, path: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        self.asked.append(body)
        if path == "/api/chat":
            return {"_debug_info": {"rendered_template": "Hello>"}}
        length = body["options"]["num_predict"]
        if self.says(body["prompt"], length) == [] and body.get("format") == "json":
            return {"logprobs": [step((b"{", -9.0), (b"", -0.1), (b"!", -3.0), chosen=0)], "prompt_eval_count": 3}
        return {"logprobs": self.says(body["prompt"], length)[:length], "prompt_eval_count": 3}


async def test_a_character_of_several_tokens_is_followed_where_the_model_writes_it_too() -> None:
    split = [step((SMILE[:2], -0.5), (b"x", -2.0)), step((SMILE[2:3], -0.1)), step((SMILE[3:], -0.2))]
    server = Server(lambda prompt, _: split if prompt == "Hello>Hi " else [step((b"Hi ", -1.0), (b"H", -3.0))])

    score = await score_reply(server.ask, "tiny", MESSAGES, "Hi 😊")

    assert score.logprobs == (-1.0, -0.5, -0.1, -0.2)
    assert score.tokens[0] == "Hi "
    assert (score.token_ids, score.prompt_tokens) == ((), 3)


async def test_a_character_that_the_model_would_not_write_cannot_be_followed() -> None:
    server = Server(lambda _prompt, _length: [step((b"x", -0.5), (SMILE[:2], -2.0)), step((b"y", -0.1))])

    with pytest.raises(EngineError, match="only likely replies can be scored"):
        await score_reply(server.ask, "tiny", MESSAGES, "😊")


async def test_the_longest_piece_that_fits_is_taken() -> None:
    server = Server(lambda _prompt, _length: [step((b"H", -0.5), (b"Hi", -2.0), (b"Hiya", -3.0))])

    assert (await score_reply(server.ask, "tiny", MESSAGES, "Hi")).logprobs == (-2.0,)


async def test_where_a_reply_would_end_a_grammar_gets_an_answer() -> None:
    server = Server(lambda _prompt, _length: [])
    passage = Passage((), (1, 2, 3), "Hello>!", (6, 6, 6), ("!", "<|end|>", "zq"))

    seen = await look_at(server.ask, "tiny", passage, (0, 1, 2))

    assert seen == (Seen(-3.0), None, Seen(-9.0, exact=False))  # None: the nameless one may be it


async def test_a_server_that_tells_nothing_is_named_with_the_version_that_does() -> None:
    async def silent(_path: str, _body: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"response": "x"}

    with pytest.raises(EngineError, match=r"0\.12\.11"):
        await look_at(silent, "tiny", Passage((), (1,), "a", (1,), ("b",)), (0,))
    with pytest.raises(EngineError, match="how it writes a conversation"):
        await score_reply(silent, "tiny", MESSAGES, "x")

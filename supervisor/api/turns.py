"""Whether replies come: a reply that the engine broke off raises a doubt, and a tiny question settles it."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import anyio
import httpx
import structlog

from supervisor.engines.engine import Engine
from supervisor.errors import EngineError

PATIENCE = 60.0  # seconds for one token; the engine may be at work for others
AGAIN = 5.0  # seconds between two questions while none is answered

log: structlog.stdlib.BoundLogger = structlog.get_logger()


@dataclass
class Turns:
    """``trouble`` says why a turn would fail now; empty while none is known to."""

    trouble: str = ""
    _doubt: anyio.Event = field(default_factory=anyio.Event, init=False)

    def failed(self) -> None:
        """A reply did not come whole, and it was not its reader who left."""
        self._doubt.set()

    async def watch(self, ask: Callable[[], Awaitable[str]], *, again: float = AGAIN) -> None:
        """Whenever there is doubt, ``ask`` every ``again`` seconds until nothing is wrong; see ``one_token``.

        Runs until cancelled, and costs nothing before a failure.
        """
        while True:
            await self._doubt.wait()
            self._doubt = anyio.Event()
            while problem := await ask():
                if not self.trouble:
                    log.warning("replies fail", problem=problem)
                self.trouble = problem
                await anyio.sleep(again)
            if self.trouble:
                log.info("replies come again")
            self.trouble = ""


async def one_token(engine: Engine) -> str:
    """Have the tuned model write one token: what is wrong, empty when nothing is."""
    question = {
        "model": engine.served.adapter,
        "messages": [{"role": "user", "content": "Hello"}],
        "max_tokens": 1,
        "stream": False,
    }
    try:
        with anyio.fail_after(PATIENCE):
            async with engine.forward("/v1/chat/completions", question) as reply:
                content = await reply.response.aread()
    except (EngineError, httpx.TransportError, httpx.DecodingError) as exc:
        return str(exc) or type(exc).__name__
    except TimeoutError:
        return f"no token within {PATIENCE:.0f} s"
    if reply.response.is_success:
        return ""
    return f"the engine answers {reply.response.status_code}: {content.decode(errors='replace')[:300]}"

"""What a lesson costs whoever wants a reply meanwhile: the whole product, with a model of a real size.

    python bench/beside.py [--json] [--model 1.7b|0.6b|tiny] [--rounds N] [--folder DIR]

tiny-chat grown to the shape of a real Qwen3 (Q8_0, embedded llama.cpp) behind the real OpenClaw. Seconds for one short
reply and for one lesson of one reply, from feedback to proof: each alone, and the reply asked for while the lesson is
under way, with the trainer at the priority of everybody else, and at its own. Each lesson begins with the bare base, so
the reply is the same every time, and each in a new trainer, whose start it pays for.
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import anyio
import httpx

ROOT = Path(__file__).resolve().parent.parent
sys.path = [str(ROOT), *(entry for entry in sys.path[1:] if entry != str(ROOT))]  # this folder has a gguf.py too

from bench.grown_model import GROWN_06B, GROWN_17B, VOCABULARY, grow  # noqa: E402
from bench.lesson_models import Shape  # noqa: E402
from supervisor.boot import booted  # noqa: E402
from supervisor.executors import trainer  # noqa: E402
from supervisor.gateway.client import ask  # noqa: E402
from supervisor.log import set_up_logging  # noqa: E402
from supervisor.preflight import free_port  # noqa: E402
from supervisor.running import Running  # noqa: E402
from supervisor.settings.sources import load_settings  # noqa: E402

MODELS = {"1.7b": GROWN_17B, "0.6b": GROWN_06B, "tiny": Shape(6, 256, 8, 4, 128, 512, VOCABULARY)}
TINY = ROOT / "models/tiny-chat"
QUESTION, FEEDBACK = "Hello, who are you?", "no emojis, please"
UNDER_WAY = 0.2  # of a lesson, when the trainer and its base are loaded


@dataclass(frozen=True)
class Row:
    what: str
    reply_s: float | None
    lesson_s: float | None


@dataclass(frozen=True)
class Home:
    """The product, up."""

    running: Running
    client: httpx.AsyncClient

    async def reply(self) -> tuple[str, float]:
        started = time.perf_counter()
        session = f"bench-{started}"
        pieces = ask(self.running.openclaw_url, self.running.openclaw_token, QUESTION, session=session)
        return "".join([piece async for piece in pieces]), time.perf_counter() - started

    async def lesson(self, response: str) -> float:
        started = time.perf_counter()
        said = {"lora_id": self.running.adapter, "prompt": QUESTION, "response": response, "feedback": FEEDBACK}
        await self.post("/v1/feedback?wait=true", said)
        taken = time.perf_counter() - started
        await self.post("/v1/lora/current", {"lora_id": self.running.adapter, "version": None})
        return taken

    async def under_way(self) -> None:
        """Return when the newest lesson is past its beginning. It has not ended by then: that takes longer."""
        while True:
            lessons = (await self.client.get("/v1/lessons", params={"limit": 1})).json()["lessons"]
            if lessons and not lessons[0]["finished"] and lessons[0]["progress"] > UNDER_WAY:
                return
            await anyio.sleep(0.2)

    async def post(self, route: str, body: dict[str, Any]) -> None:
        answer = await self.client.post(route, json=body)
        if not answer.is_success:
            raise SystemExit(f"{route} answered {answer.status_code}: {answer.text}")


async def measure(model: Path, data: Path, rounds: int) -> list[Row]:
    ports = {"api_port": free_port(), "openclaw_port": free_port()}
    settings = load_settings(data=data, model=str(model), trainer_warm_s=0, **ports)
    async with booted(settings, tell, show_output=False) as up:
        headers = {"Authorization": f"Bearer {up.running.api_token}"}
        async with httpx.AsyncClient(
            base_url=up.running.api_url, headers=headers, timeout=3600, trust_env=False
        ) as client:
            home = Home(up.running, client)
            response, _ = await home.reply()
            taken = [await turn(home, response, number + 1) for number in range(rounds)]
    return [
        Row(rows[0].what, middle([row.reply_s for row in rows]), middle([row.lesson_s for row in rows]))
        for rows in zip(*taken, strict=True)
    ]


async def turn(home: Home, response: str, number: int) -> list[Row]:
    tell(f"round {number}: alone")
    rows = [Row("alone", (await home.reply())[1], await home.lesson(response))]
    for what, nice in (("together, equal priorities", 0), ("together", trainer.NICE)):
        tell(f"round {number}: {what}")
        with priority(nice):
            rows.append(await together(home, response, what))
    return rows


async def together(home: Home, response: str, what: str) -> Row:
    lessons: list[float] = []

    async def teach() -> None:
        lessons.append(await home.lesson(response))

    async with anyio.create_task_group() as tg:
        tg.start_soon(teach)
        await home.under_way()
        _, seconds = await home.reply()
    return Row(what, seconds, lessons[0])


@contextmanager
def priority(nice: int) -> Iterator[None]:
    """Of trainers that start in the block."""
    ours, trainer.NICE = trainer.NICE, nice
    try:
        yield
    finally:
        trainer.NICE = ours


def middle(seconds: Sequence[float | None]) -> float | None:
    known = [one for one in seconds if one is not None]
    return median(known) if known else None


def tell(what: str) -> None:
    print(f"  {what}", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--model", choices=MODELS, default="1.7b")
    parser.add_argument("--rounds", type=int, choices=range(1, 10), default=1, metavar="N", help="medians of so many")
    parser.add_argument("--folder", type=Path, help="keep the model here, and use it if it is there already")
    given = parser.parse_args()
    set_up_logging("error")
    with tempfile.TemporaryDirectory(prefix="clawlama-bench-") as scratch:
        model = (given.folder or Path(scratch)) / f"grown-{given.model}" / "model.gguf"
        if not model.exists():
            tell(f"growing tiny-chat to {given.model}")
            model.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(TINY / "generation_config.json", model.parent)  # greedy: each reply is the same
            grow(TINY / "tiny-chat.gguf", model, MODELS[given.model])
        rows = anyio.run(measure, model, Path(scratch) / "data", given.rounds)
    if given.json:
        print(json.dumps({"model": given.model, "rounds": given.rounds, "rows": [asdict(row) for row in rows]}))
        return
    print(f"tiny-chat grown to {given.model}, Q8_0, embedded llama.cpp; seconds, medians of {given.rounds}\n")
    print("| | a reply | a lesson |\n|---|---:|---:|")
    for row in rows:
        print(f"| {row.what} | {row.reply_s:.1f} | {row.lesson_s:.1f} |")


if __name__ == "__main__":
    main()

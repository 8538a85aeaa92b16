"""What must hold whoever was killed."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import httpx

from supervisor.adapters.store import LINK, STAGING, AdapterStore, AdapterVersion, file_record
from supervisor.distill.job import DistillJob, DistillResult
from supervisor.engines.llama_server import LlamaConfig
from supervisor.learning.lesson import JOB_FILE, RESULT_FILE
from supervisor.learning.proof import RESOLUTION
from tests.e2e.ledger import ADAPTER, Ledger
from tests.e2e.product import PATIENCE, Life, Place

WAITING = {"gathering", "queued"}
ENDED = {"done", "failed", "rejected"}


def current_version(place: Place) -> AdapterVersion | None:
    """What ``current`` points to, every file of it checked against its manifest."""
    current = AdapterStore(place.data / "adapters").current(ADAPTER)
    if current is not None:
        for name, record in current.manifest.files.items():
            assert file_record(current.folder / name) == record, f"{current.folder / name} is not what was written"
    return current


async def check_start(place: Place, life: Life) -> None:
    """A new life has ended all of the life before, and serves the version that ``current`` names."""
    health = await life.api_up()
    assert not place.strays(life.process.pid)
    current = current_version(place)
    assert health["version"] == (current.manifest.version if current else None)
    await life.service("engine", lambda engine: engine.state == "ready")
    loaded = LlamaConfig.model_validate_json((place.data / "run" / "engine.json").read_text()).adapter
    assert loaded == (current.gguf if current else None)


async def check_served(place: Place) -> None:
    """The served model gives the replies of its last lesson the probability that the trainer left them with."""
    current = current_version(place)
    assert current is not None, "no lesson was learned"
    job = DistillJob.model_validate_json((current.folder / JOB_FILE).read_text())
    result = DistillResult.model_validate_json((current.folder / RESULT_FILE).read_text())
    asked = {sample.id: sample for sample in job.samples if sample.closed}
    async with place.client() as client:
        for probe in result.probes:
            if (sample := asked.get(probe.sample)) is not None:
                body = {"messages": list(sample.messages), "completion": sample.reply["content"]}
                answer = (await client.post("/v1/score", json=body)).json()
                assert answer["token_ids"] == list(probe.token_ids)
                apart = sum(abs(a - b) for a, b in zip(answer["logprobs"], probe.after, strict=True))
                assert apart / len(probe.after) < RESOLUTION


async def lessons_over(life: Life) -> None:
    """Wait until nothing is left to learn."""
    with anyio.fail_after(PATIENCE):
        while any((await life.health())["lessons"].values()):  # noqa: ASYNC110
            await anyio.sleep(0.2)


async def check_kept(place: Place, ledger: Ledger) -> None:
    """All that was acknowledged is there, asked through the API."""
    async with place.client() as client:
        for completion, turn in ledger.completions.items():
            kept = (await client.get(f"/v1/journal/completions/{completion}")).json()
            assert kept["reply"]["content"] == turn.reply
            assert kept["messages"] == [{"role": "user", "content": turn.prompt}]
        for text, lesson in ledger.feedback.items():
            assert text in await feedback_of(client, lesson)
    for turn in ledger.turns:
        assert turn.reply.strip() in replies_to(place, turn.prompt), turn.prompt


async def feedback_of(client: httpx.AsyncClient, lesson: str) -> list[str]:
    return [item["text"] for item in (await client.get(f"/v1/lessons/{lesson}")).json()["feedback"]]


def check_journal(place: Place, ledger: Ledger) -> None:
    """The same on the disk, past everything of ours."""
    replies = {row["id"]: json.loads(row["reply"])["content"] for row in rows(place, "completions")}
    assert {one: replies.get(one) for one in ledger.completions} == {
        one: turn.reply for one, turn in ledger.completions.items()
    }
    lessons = {row["text"]: row["lesson_id"] for row in rows(place, "feedback")}
    assert {text: lessons.get(text) for text in ledger.feedback} == ledger.feedback
    states = {row["id"]: row["state"] for row in rows(place, "lessons")}
    assert set(states.values()) <= WAITING | ENDED
    assert set(lessons.values()) == set(states)


def replies_to(place: Place, prompt: str) -> list[str]:
    """Every recorded reply to a request that holds these words."""
    found = [row for row in rows(place, "completions") if prompt in row["messages"]]
    return [str(json.loads(row["reply"])["content"]).strip() for row in found]


def rows(place: Place, table: str) -> list[Any]:
    with closing(sqlite3.connect(f"file:{place.data}/journal.db?mode=ro", uri=True)) as connection:
        connection.row_factory = sqlite3.Row
        assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        return connection.execute(f"SELECT * FROM {table}").fetchall()


def check_gone(place: Place) -> None:
    """After a stop: no process, nothing half done, nothing outside the data folder."""
    assert not [one.pid for one in place.owned()]
    assert place.litter() == []
    assert list((place.data / "lessons").iterdir()) == []
    assert half_done(place.data / "adapters") == []


def half_done(adapters: Path) -> list[str]:
    return [
        str(path) for path in adapters.rglob("*") if path.parent.name == STAGING or path.name.startswith(f".{LINK}")
    ]

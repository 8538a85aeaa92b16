from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from prometheus_client.parser import text_string_to_metric_families

from supervisor.api.metrics import Moment
from supervisor.api.status import StackStatus
from supervisor.host.facts import Gpu
from supervisor.journal.records import NewFeedback
from tests.api.stage import ADAPTER, CHAT, HELLO, Stage, in_process
from tests.fakes.control import ENGINE
from tests.fakes.ports import free_port

pytestmark = pytest.mark.anyio

Samples = Mapping[tuple[str, tuple[tuple[str, str], ...]], float]


async def scraped(stage: Stage) -> Samples:
    answer = await stage.client.get("/metrics")
    assert answer.status_code == 200
    return samples(answer.text)


def samples(text: str) -> Samples:
    families = text_string_to_metric_families(text)
    return {(one.name, tuple(sorted(one.labels.items()))): one.value for family in families for one in family.samples}


def of(found: Samples, name: str, **labels: str) -> float | None:
    return found.get((name, tuple(sorted(labels.items()))))


async def test_a_reply_is_counted_with_its_times_and_tokens(tmp_path: Path) -> None:
    async with in_process(tmp_path) as stage:
        await stage.client.post(CHAT, json=HELLO | {"stream": True})
        await stage.client.post(CHAT, json=HELLO | {"stream": True})
        found = await scraped(stage)

    assert of(found, "clawlama_completions_total", model=ADAPTER, outcome="stop") == 2
    assert of(found, "gen_ai_server_time_to_first_token_seconds_count", gen_ai_request_model=ADAPTER) == 2
    assert of(found, "gen_ai_server_request_duration_seconds_count", gen_ai_request_model=ADAPTER) == 2


async def test_a_reply_that_did_not_come_is_counted_and_a_wrong_name_is_not(tmp_path: Path) -> None:
    async with in_process(tmp_path) as stage:
        await stage.client.post(CHAT, json=HELLO | {"model": "made-up"})
        stage.engine.url = f"http://127.0.0.1:{free_port()}"  # nobody is there
        await stage.client.post(CHAT, json=HELLO)
        found = await scraped(stage)

    counted = {labels: value for (name, labels), value in found.items() if name == "clawlama_completions_total"}
    assert counted == {(("model", ADAPTER), ("outcome", "error")): 1}


async def test_services_are_told_by_name(tmp_path: Path) -> None:
    async with in_process(tmp_path, status=lambda: StackStatus("ready", services=(ENGINE,))) as stage:
        found = await scraped(stage)

    assert of(found, "clawlama_service_up", service="engine") == 1
    assert of(found, "clawlama_service_state", service="engine", state="ready") == 1
    assert of(found, "clawlama_service_state", service="engine", state="failed") == 0
    assert of(found, "clawlama_service_restarts_total", service="engine") == 2
    assert of(found, "clawlama_service_cpu_seconds_total", service="engine") == 3.5
    assert of(found, "clawlama_service_uptime_seconds", service="engine") == 60
    assert of(found, "clawlama_service_resident_memory_bytes", service="engine") == 2**20


async def test_what_does_not_run_is_down_and_uses_nothing(tmp_path: Path) -> None:
    down = ENGINE.model_copy(update=dict.fromkeys(("pid", "uptime", "rss", "cpu")) | {"state": "backing_off"})
    async with in_process(tmp_path, status=lambda: StackStatus("degraded", services=(down,))) as stage:
        found = await scraped(stage)

    assert of(found, "clawlama_service_up", service="engine") == 0
    assert of(found, "clawlama_service_cpu_seconds_total", service="engine") is None


async def test_the_phase_and_each_pull_are_told(tmp_path: Path) -> None:
    status = StackStatus(
        "pulling",
        "pulling qwen3:8b 43 %, 12 MB/s, 3 min left",
        downloads={"gemma3:4b": "pulling gemma3:4b 7 %", "x": "x cannot be pulled: no such model"},
    )
    async with in_process(tmp_path, status=lambda: status) as stage:
        found = await scraped(stage)

    assert of(found, "clawlama_phase", phase="pulling") == 1
    assert of(found, "clawlama_phase", phase="ready") == 0
    assert of(found, "clawlama_pull_progress_ratio", model="qwen3:8b") == 0.43
    assert of(found, "clawlama_pull_progress_ratio", model="gemma3:4b") == 0.07


async def test_feedback_and_lessons_are_counted_from_the_journal(tmp_path: Path) -> None:
    async with in_process(tmp_path) as stage:
        for gather in (True, False):
            await stage.journal.add_feedback(
                [NewFeedback(adapter=ADAPTER, text="brief", prompt="Hi")],
                training={},
                orchestration={},
                gather=gather,
                batch_size=4,
            )
        before = await scraped(stage)
        lesson = await ended_lesson(stage)
        with anyio.fail_after(10):
            while not of(after := await scraped(stage), "clawlama_lesson_duration_seconds_count", outcome="done"):
                await anyio.lowlevel.checkpoint()

    assert lesson
    assert of(before, "clawlama_feedback_total") == of(before, "clawlama_feedback_pending") == 2
    assert of(before, "clawlama_lessons", state="gathering") == of(before, "clawlama_lessons", state="queued") == 1
    assert of(after, "clawlama_feedback_pending") == 1
    assert of(after, "clawlama_lessons", state="done") == 1
    assert of(after, "clawlama_lesson_duration_seconds_count", outcome="done") == 1


async def ended_lesson(stage: Stage) -> str:
    lesson = await stage.journal.claim_lesson(patience=timedelta(hours=1))
    assert lesson is not None
    await stage.journal.update_lesson(lesson.id, state="publishing")
    await stage.journal.update_lesson(lesson.id, state="done", version="v0003")
    return lesson.id


async def test_the_rest_is_measured_where_it_is(tmp_path: Path) -> None:
    async with in_process(tmp_path) as stage:
        found = await scraped(stage)
        names = {name for name, _ in found}

    served = {"model": "tiny-chat", "adapter": ADAPTER, "version": "v0002"}
    assert of(found, "clawlama_served_info", **served) == 1
    assert of(found, "clawlama_info", version="1.2.3") == 1
    assert (of(found, "clawlama_journal_size_bytes") or 0) > 4096
    assert (of(found, "clawlama_disk_free_bytes") or 0) > 0
    assert {"process_resident_memory_bytes", "process_cpu_seconds_total", "process_open_fds"} <= names
    assert of(found, "clawlama_turns_fail") == 0


async def test_two_apps_count_apart(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    async with in_process(tmp_path / "a") as one, in_process(tmp_path / "b") as other:
        await one.client.post(CHAT, json=HELLO)
        here, there = await scraped(one), await scraped(other)

    assert of(here, "clawlama_completions_total", model=ADAPTER, outcome="stop") == 1
    assert of(there, "clawlama_completions_total", model=ADAPTER, outcome="stop") is None


@pytest.mark.parametrize(("opened", "status"), [(False, 401), (True, 200)])
async def test_a_scraper_without_the_token_needs_a_setting(tmp_path: Path, opened: bool, status: int) -> None:
    async with in_process(tmp_path, open_metrics=opened) as stage:
        stage.client.headers.pop("authorization")

        assert (await stage.client.get("/metrics")).status_code == status
        assert (await stage.client.get("/v1/services")).status_code == 401


def test_gpu_memory_is_told_where_there_is_a_gpu() -> None:
    gpu = Gpu(name="L4", memory_total=24, memory_free=20, driver="1", compute="8.9", shared=False)
    nothing: dict[str, Any] = {"services": (), "journal": None, "journal_bytes": 0, "disk_free": 1, "disk_total": 2}
    moment = Moment("1", "ready", ("ready",), False, {}, {}, gpus=(gpu,), **nothing)

    values = {sample.name: sample.value for family in moment.collect() for sample in family.samples}

    assert (values["clawlama_gpu_memory_used_bytes"], values["clawlama_gpu_memory_bytes"]) == (4, 24)
    assert values["clawlama_journal_up"] == 0

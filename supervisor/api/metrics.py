"""For graphs: events are counted as they happen, in a registry per app; the rest is looked up per scrape."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Histogram, Metric, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.registry import Collector

from supervisor.errors import JournalError
from supervisor.host.facts import Gpu
from supervisor.journal.journal import Journal, Tally
from supervisor.journal.records import ENDED, Completion, LessonState
from supervisor.services.status import ServiceStatus, State

# Seconds. OpenTelemetry's proposal for these two, longer: a CPU reads a long prompt for minutes.
FIRST_TOKEN = (*(0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10), *(20, 40, 80, 160, 320))
WHOLE_REPLY = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92, 163.84, 327.68)
LESSON = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200)

OUTCOMES = frozenset({"stop", "length", "tool_calls", "cancelled", "error"})  # others are one: labels stay few
MODEL = "gen_ai_request_model"


class Metrics:
    """Counters and histograms of one app."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._replies = Counter(
            "clawlama_completions", "Replies by model and how they ended.", ("model", "outcome"), registry=self.registry
        )
        self._tokens = Counter(
            "clawlama_tokens",
            "Tokens read and written, as the engine counts them.",
            ("model", "kind"),
            registry=self.registry,
        )
        self._first_token = Histogram(
            "gen_ai_server_time_to_first_token_seconds",
            "Seconds from the request to the first token.",
            (MODEL,),
            buckets=FIRST_TOKEN,
            registry=self.registry,
        )
        self._whole = Histogram(
            "gen_ai_server_request_duration_seconds",
            "Seconds from the request to the end of the reply.",
            (MODEL,),
            buckets=WHOLE_REPLY,
            registry=self.registry,
        )
        self._lessons = Histogram(
            "clawlama_lesson_duration_seconds",
            "Seconds from a lesson's start to its end, by how it ended.",
            ("outcome",),
            buckets=LESSON,
            registry=self.registry,
        )
        self._ended: set[str] = set()

    def completed(self, completion: Completion) -> None:
        """A reply has ended, well or not."""
        model, reason = completion.model, completion.finish_reason
        self._replies.labels(model, reason if reason in OUTCOMES else "other").inc()
        self._whole.labels(model).observe(completion.total_s)
        if completion.ttft_s is not None:
            self._first_token.labels(model).observe(completion.ttft_s)
        for kind in ("prompt", "completion"):
            count = (completion.usage or {}).get(f"{kind}_tokens")
            if isinstance(count, int) and count > 0:
                self._tokens.labels(model, kind).inc(count)

    def failed(self, model: str) -> None:
        """The engine gave no reply; ``model`` is one that is served."""
        self._replies.labels(model, "error").inc()

    async def follow(self, journal: Journal) -> None:
        """Time the lessons that end, until cancelled."""
        async with journal.changes() as changes:
            async for change in changes:
                if change.kind == "lesson" and change.id not in self._ended:
                    try:
                        lesson = await journal.lesson(change.id)
                    except JournalError:
                        continue  # it is lost to the histogram; whoever wrote it has been told
                    if lesson.ended and lesson.started and lesson.finished:
                        self._ended.add(lesson.id)
                        seconds = (lesson.finished - lesson.started).total_seconds()
                        self._lessons.labels(lesson.state).observe(seconds)


@dataclass(frozen=True)
class Moment(Collector):
    """What a scrape finds. ``journal`` is None while it cannot be read."""

    version: str
    phase: str
    phases: tuple[str, ...]
    failing: bool  # a turn would fail now
    served: dict[str, str]  # model, adapter, version
    pulls: Mapping[str, float]  # by model, 0 to 1
    services: tuple[ServiceStatus, ...]
    journal: Mapping[LessonState, Tally] | None
    journal_bytes: int
    disk_free: int
    disk_total: int
    gpus: tuple[Gpu, ...] = ()

    def collect(self) -> Iterator[Metric]:
        yield InfoMetricFamily("clawlama", "This program.", {"version": self.version})
        yield InfoMetricFamily("clawlama_served", "What answers under the adapter's name.", self.served)
        yield one_of("clawlama_phase", "The phase that health tells.", self.phase, self.phases)
        yield gauge("clawlama_turns_fail", "1 while a chat turn would fail.", int(self.failing))
        yield by("clawlama_pull_progress_ratio", "How far the download of a model is.", "model", self.pulls)
        yield from service_families(self.services)
        yield from self._journal_families()
        yield gauge("clawlama_journal_size_bytes", "The journal's files.", self.journal_bytes)
        yield gauge("clawlama_disk_free_bytes", "Free on the disk of the data folder.", self.disk_free)
        yield gauge("clawlama_disk_size_bytes", "The disk of the data folder.", self.disk_total)
        if self.gpus:
            used = {f"{n} {one.name}": one.memory_total - one.memory_free for n, one in enumerate(self.gpus)}
            total = {f"{n} {one.name}": one.memory_total for n, one in enumerate(self.gpus)}
            yield by("clawlama_gpu_memory_used_bytes", "GPU memory in use, by whomever.", "gpu", used)
            yield by("clawlama_gpu_memory_bytes", "GPU memory in all.", "gpu", total)

    def _journal_families(self) -> Iterator[Metric]:
        yield gauge("clawlama_journal_up", "1 while the journal can be read.", int(self.journal is not None))
        if self.journal is None:
            return
        told = sum(tally.feedback for tally in self.journal.values())
        pending = sum(tally.feedback for state, tally in self.journal.items() if state not in ENDED)
        yield CounterMetricFamily("clawlama_feedback", "Feedback that was given.", value=told)
        yield gauge("clawlama_feedback_pending", "Feedback that is not learned yet.", pending)
        lessons = {
            state: self.journal[state].lessons if state in self.journal else 0 for state in get_args(LessonState)
        }
        yield by("clawlama_lessons", "Lessons by state.", "state", lessons)


def service_families(services: tuple[ServiceStatus, ...]) -> Iterator[Metric]:
    ready = {one.name: int(one.state == "ready") for one in services}
    yield by("clawlama_service_up", "1 while the service is ready.", "service", ready)
    states = GaugeMetricFamily("clawlama_service_state", "1 at the state that it is in.", labels=("service", "state"))
    restarts = CounterMetricFamily(
        "clawlama_service_restarts", "Starts after an end that nobody had asked for.", labels=("service",)
    )
    for one in services:
        restarts.add_metric((one.name,), one.restarts)
        for state in get_args(State):
            states.add_metric((one.name, state), int(one.state == state))
    yield states
    yield restarts
    cpu = CounterMetricFamily(
        "clawlama_service_cpu_seconds", "CPU time of the living process and its offspring.", labels=("service",)
    )
    for one in services:
        if one.cpu is not None:
            cpu.add_metric((one.name,), one.cpu)
    yield cpu
    up = {one.name: one.uptime for one in services if one.uptime is not None}
    yield by("clawlama_service_uptime_seconds", "Age of the living process.", "service", up)
    rss = {one.name: one.rss for one in services if one.rss is not None}
    yield by("clawlama_service_resident_memory_bytes", "Memory of its processes.", "service", rss)


def gauge(name: str, meaning: str, value: float) -> Metric:
    return GaugeMetricFamily(name, meaning, value=value)


def by(name: str, meaning: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(name, meaning, labels=(label,))
    for one, value in values.items():
        family.add_metric((one,), value)
    return family


def one_of(name: str, meaning: str, now: str, all_of_them: tuple[str, ...]) -> Metric:
    """1 at what is now, 0 at the others, under a label called as the end of the name."""
    return by(name, meaning, name.rpartition("_")[2], {one: int(one == now) for one in all_of_them})

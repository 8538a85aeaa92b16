"""Does it learn what it is told, and what does that cost elsewhere?

    python bench/learning.py [--json] [--plot FILE] [--preference X ...] [--lessons N] [--batch N] [--seeds N ...]
                             [--prompts N] [--recipe KEY=VALUE ...] [--read FILE ...]

For each preference, from the bare tiny-chat: questions that the model never saw are asked of the served model; then
each lesson is feedback, worded anew every time, on its replies to other questions, trained and served by the product
itself (all but OpenClaw); and after each lesson the first questions are asked again. One set of replies tells whether
the taught preference is obeyed and whether the others stay as they were; "asked for" is whether they are still obeyed
when the question itself asks for them, in words that were never trained on.
"""

import argparse
import json
import random
import statistics
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import anyio
from pydantic import TypeAdapter

ROOT = Path(__file__).resolve().parent.parent
sys.path[0] = str(ROOT)  # not this folder: gguf is a package, too

from bench.learning_metrics import PREFERENCES, drift, self_rouge, share  # noqa: E402
from bench.learning_plot import draw  # noqa: E402
from bench.learning_room import Messages, Reply, Room, room  # noqa: E402
from bench.learning_runs import Lesson, Point, Run, Told, table  # noqa: E402
from bench.learning_score import Chat, Scorer, Scores  # noqa: E402
from scripts.tiny_model.knowledge import HELD_OUT as UNSEEN  # noqa: E402
from scripts.tiny_model.knowledge import TRAIN  # noqa: E402
from scripts.tiny_model.tasks import HELD_OUT_TASKS  # noqa: E402
from scripts.tiny_model.wordings import COMPLAINTS, HELD_OUT, REQUESTS, pick  # noqa: E402
from supervisor.learning.queue import with_hindsight  # noqa: E402
from supervisor.log import set_up_logging  # noqa: E402
from supervisor.plan.decide import TINY_RECIPE  # noqa: E402
from supervisor.plan.models import bundled  # noqa: E402

RUNS = TypeAdapter(list[Run])


@dataclass(frozen=True)
class Course:
    """What is asked, taught and measured."""

    lessons: int
    batch: int
    prompts: int  # held-out questions
    temperature: float  # of the sampled replies; the engine's own is greedy for this model
    scorer: Scorer

    @property
    def sampling(self) -> dict[str, float]:
        return {"temperature": self.temperature, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "seed": 0}

    def looks(self, number: int) -> bool:
        """Whether is measured after this lesson: after 1, 2, 4, 8, … and the last."""
        return number == self.lessons or number & (number - 1) == 0


def ask(question: str) -> Messages:
    return [{"role": "user", "content": question}]


def unseen(count: int) -> list[str]:
    """Held-out questions, over as many topics as there are."""
    rng = random.Random(7)
    topics = [rng.sample(questions, len(questions)) for questions in rng.sample(UNSEEN, len(UNSEEN)) if questions]
    most = max(map(len, topics))
    return [topic[turn].text for turn in range(most) for topic in topics if turn < len(topic)][:count]


def words_of(rng: random.Random, preference: str) -> str:
    """What a person might say about a reply; never a wording that is held out."""
    pool = rng.choice((REQUESTS, COMPLAINTS))[preference]
    return pick(rng, pool).replace("{n}", "Kuro")


def wished(preference: str, questions: Sequence[str]) -> list[Messages]:
    """The questions, each with a request for this preference before it."""
    wordings = HELD_OUT[preference]
    return [ask(f"{wordings[index % len(wordings)]} {question}") for index, question in enumerate(questions)]


@dataclass(frozen=True)
class Own:
    """The bare base's own replies to the held-out questions, and how likely it finds them."""

    chats: list[Chat]
    scores: Scores


@dataclass(frozen=True)
class Bare:
    """The model before any lesson, and per preference what it does while the feedback stands in its context."""

    own: Own
    point: Point
    told: dict[str, Told]


async def bare(course: Course, taught: Sequence[str]) -> Bare:
    with tempfile.TemporaryDirectory(prefix="clawlama-bench-") as folder:
        async with room(Path(folder), {}) as place:
            own = await own_replies(place, course)
            point = await measure(place, course, own, 0, end=True)
            return Bare(own, point, {one: await told_so(place, course, one) for one in taught})


async def told_so(place: Room, course: Course, preference: str) -> Told:
    """What a lesson's teacher reads, with the held-out questions for prompts: no lesson can be asked for more."""
    rng, questions = random.Random(preference), unseen(course.prompts)

    def hinted(chats: Sequence[Messages]) -> list[Messages]:
        return [[*with_hindsight(chat, words_of(rng, preference))] for chat in chats]

    plain, others = hinted([ask(question) for question in questions]), [x for x in PREFERENCES if x != preference]
    told, sampled = texts(await place.ask(plain)), texts(await place.ask(plain, **course.sampling))
    return Told(
        obeys={one: share(one, told) for one in PREFERENCES},
        sampled={one: share(one, sampled) for one in PREFERENCES},
        asked={one: share(one, texts(await place.ask(hinted(wished(one, questions))))) for one in others},
    )


async def own_replies(place: Room, course: Course) -> Own:
    questions = unseen(course.prompts)
    told = texts(await place.ask([ask(question) for question in questions]))
    chats = list(zip(questions, told, strict=True))
    return Own(chats, course.scorer.scores(None, chats))


async def measure(place: Room, course: Course, own: Own, lessons: int, *, end: bool) -> Point:
    """``end``: of the course, where more is asked."""
    questions = [question for question, _ in own.chats]
    chats = [ask(question) for question in questions]
    told = texts(await place.ask(chats))
    sampled = texts(await place.ask(chats, **course.sampling))
    tasks = texts(await place.ask([ask(task.prompt) for task in HELD_OUT_TASKS]))
    asked = {one: share(one, texts(await place.ask(wished(one, questions)))) for one in PREFERENCES} if end else None
    both = [*zip(questions, sampled, strict=True), *own.chats]
    fresh, kept = course.scorer.scores(place.folder, both).parted(len(questions))
    return Point(
        lessons=lessons,
        obeys={one: share(one, told) for one in PREFERENCES},
        sampled={one: share(one, sampled) for one in PREFERENCES},
        tasks=statistics.fmean(answer == task.answer for answer, task in zip(tasks, HELD_OUT_TASKS, strict=True)),
        entropy=fresh.entropy,
        alike=self_rouge(sampled[:40]),
        drift=drift(own.scores.logprobs, kept.logprobs),
        asked=asked,
    )


def texts(replies: Sequence[Reply]) -> list[str]:
    return [reply.text for reply in replies]


@dataclass(frozen=True)
class Courses:
    """What they have in common."""

    course: Course
    bare: Bare
    recipe: dict[str, Any]
    tell: Callable[[str], None]

    async def take(self, preference: str, seed: int) -> Run:
        """One course from the bare base, in a data folder of its own."""
        rng, course = random.Random(f"{preference} {seed}"), self.course
        fresh = [rng.choice(topic).text for topic in rng.sample(TRAIN, len(TRAIN))]  # no topic twice
        curve, lessons = [self.bare.point], []
        with tempfile.TemporaryDirectory(prefix="clawlama-bench-") as folder:
            async with room(Path(folder), self.recipe) as place:
                for number in range(1, course.lessons + 1):
                    questions = [fresh.pop() for _ in range(course.batch)]
                    replies = await place.ask([ask(question) for question in questions])
                    lessons.append(await lesson(place, [(reply, words_of(rng, preference)) for reply in replies]))
                    self.tell(f"{preference}, seed {seed}: lesson {number} {lessons[-1].state}")
                    if course.looks(number):
                        end = number == course.lessons
                        curve.append(await measure(place, course, self.bare.own, number, end=end))
                        self.tell(f"{preference}, seed {seed}: obeyed {curve[-1].obeys[preference]:.0%}")
        return Run(preference, seed, tuple(curve), tuple(lessons), self.bare.told[preference])


async def lesson(place: Room, said: Sequence[tuple[Reply, str]]) -> Lesson:
    started = anyio.current_time()
    outcome = await place.teach(said)
    if outcome["state"] == "failed":
        raise SystemExit(f"the lesson failed: {outcome}")
    trained = outcome["timing_ms"]["distill"] / 1000
    return Lesson(outcome["version"], outcome["state"], trained, anyio.current_time() - started)


def recipe_of(pairs: Sequence[str]) -> dict[str, Any]:
    """``KEY=VALUE`` of the command line as the recipe's own types."""
    kinds = {one.name: type(getattr(TINY_RECIPE, one.name)) for one in fields(TINY_RECIPE)}
    changes = {}
    for pair in pairs:
        key, _, value = pair.partition("=")
        if key not in kinds:
            raise SystemExit(f"--recipe {pair}: there is no {key!r}; it has {', '.join(kinds)}")
        changes[key] = kinds[key](value)
    return changes


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--plot", type=Path, help="draw the curves into this file (PNG, SVG)")
    parser.add_argument("--preference", nargs="+", choices=PREFERENCES, default=PREFERENCES)
    parser.add_argument("--lessons", type=int, default=8)
    parser.add_argument("--batch", type=int, default=4, help="feedback per lesson")
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the lessons' questions and wordings"
    )
    parser.add_argument("--prompts", type=int, default=64, help="held-out questions")
    parser.add_argument("--temperature", type=float, default=0.8, help="of the sampled replies")
    parser.add_argument("--read", type=Path, nargs="+", default=[], help="tell these --json results; run nothing")
    parser.add_argument("--recipe", nargs="*", default=[], metavar="KEY=VALUE", help="instead of the plan's values")
    return parser.parse_args()


def runs_of(given: argparse.Namespace) -> list[Run]:
    course = Course(given.lessons, given.batch, given.prompts, given.temperature, Scorer(bundled("tiny-chat")))
    before = anyio.run(bare, course, given.preference)
    courses = Courses(course, before, recipe_of(given.recipe), partial(print, file=sys.stderr))
    return [anyio.run(courses.take, one, seed) for one in given.preference for seed in given.seeds]


def main() -> None:
    given = arguments()
    set_up_logging("error")
    warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers the old way
    runs = [] if given.read else runs_of(given)
    for file in given.read:
        runs += RUNS.validate_python(json.loads(file.read_text())["runs"])
    if given.plot:
        draw(runs, given.plot)
    if given.json:
        told = {
            "recipe": asdict(TINY_RECIPE) | recipe_of(given.recipe),
            "runs": [{**asdict(run), "missed": run.problems} for run in runs],
        }
        print(json.dumps(told))
        return
    print("\n".join(told_of(runs)))


def told_of(runs: Sequence[Run]) -> list[str]:
    seconds = statistics.median(one.served_s for run in runs for one in run.lessons)
    heading = (
        f"{len(runs[0].lessons)} lessons; {seconds:.1f} s from feedback to served (median). Before → after, in % of "
        "replies where nothing else is said: mean over the seeds (lowest–highest) [the bare model with the feedback in "
        "its context]."
    )
    lines = [heading, "", *table(runs), ""]
    return (
        lines + [f"* missed, {one}" for one in missed(runs)] if missed(runs) else [*lines, "Every run meets every aim."]
    )


def missed(runs: Sequence[Run]) -> list[str]:
    return [f"{run.preference}, seed {run.seed}: {'; '.join(run.problems)}" for run in runs if run.problems]


if __name__ == "__main__":
    main()

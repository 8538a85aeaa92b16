"""How fast and how small a lesson's step is, beside the predecessor's, in one run.

    python bench/lesson.py [--json] [--model 0.6b|8b|tiny] [--shape short|shared|long ...] [--dtype bf16|fp32 ...]
                           [--threads N] [--rounds N] [--folder DIR]

A random model of the shape of Qwen3-0.6B, LoRA of rank 32 on all linear layers, 4 replies of 128 tokens, KL on. "plain"
is the predecessor's step, written anew from its published algorithm: three full passes for each sample, gradient
checkpointing, all graphs kept until one backward pass. "ours" is what a lesson does when there is memory, "ours, small"
what it does with half of the plain step's memory: it reads a GGUF (Q8_0 here; the numbers are the same in all formats),
whose weights stay quantised if they must (in float32, on a CPU, always), and what does not fit is computed again.
Each in a process of its own, one after the other, with the same weights, adapter and tokens; with --rounds, so often,
and figures are medians. Shapes:

    short    256 prompt tokens, of which nothing is shared
    shared   256 prompt tokens, of which the first 128 are the same system prompt
    long     the same behind a system prompt of 2,048 tokens more

The step is timed without loading; what loading adds is shown beside it, for the predecessor loads for every call and
our trainer stays for the next lesson. "faster" is by CPU seconds within a round, with the least and the most of all
rounds, "wall" by the clock: our trainer's threads sleep soon when they wait, the predecessor's as PyTorch has it.
"again" is the CPU seconds of our second step, with its memory at hand. "% of peak": of what this machine's large matrix
products reached, before and after, by the floating-point operations that the step needed.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path = [str(ROOT), *(entry for entry in sys.path[1:] if entry != str(ROOT))]  # this folder has a gguf.py too

from bench.lesson_models import QWEN3_06B, QWEN3_8B, TINY, Shape, make_adapter, make_model  # noqa: E402
from supervisor.executors.local import SETTLED  # noqa: E402

MODELS = {"0.6b": QWEN3_06B, "8b": QWEN3_8B, "tiny": TINY}
DTYPES = {"bf16": "bfloat16", "fp32": "float32"}
TRAINERS = {"plain": "plain", "ours": "fast", "ours, small": "small"}
Replies = list[dict[str, list[int]]]
SAMPLES, PROMPT, REPLY, FEEDBACK, SYSTEM, LONG = 4, 256, 128, 36, 128, 2048


@dataclass(frozen=True)
class Row:
    shape: str
    dtype: str
    trainer: str
    wall: float  # seconds, the step alone
    cpu: float
    faster: float  # plain's CPU seconds for one of ours; on a GPU, wall
    faster_least: float
    faster_most: float
    faster_wall: float
    again_cpu: float | None  # of a second step in the same process; the predecessor makes none
    load_cpu: float
    peak_mb: float
    memory: float  # of plain's
    tflop: float
    of_peak: float  # of the measured matrix product rate
    loss: float
    norm: float
    apart: float  # relative distance of the gradient from plain's of the same dtype


def main(argv: Sequence[str] | None = None) -> None:
    options = parser().parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="clawlama-bench-") as scratch:
        folder = options.folder or Path(scratch)
        bench = Bench(folder, MODELS[options.model], options.threads, options.rounds)
        bench.prepare()
        rows: list[Row] = []
        for shape, dtype in product(options.shape, options.dtype):
            rows += bench.rows(shape, dtype)
            tell("\n".join(map(line, rows[-len(TRAINERS) :])))  # long runs are broken off: nothing is lost then
        if options.json:
            print(json.dumps({"machine": bench.machine, "rows": [asdict(row) for row in rows]}, indent=1))
        else:
            print(table(rows, bench.machine))


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--json", action="store_true", help="print JSON instead of a table")
    made.add_argument("--model", choices=MODELS, default="0.6b")
    made.add_argument("--shape", choices=["short", "shared", "long"], nargs="+", default=["short", "long"])
    made.add_argument("--dtype", choices=DTYPES, nargs="+", default=list(DTYPES))
    made.add_argument("--threads", type=int, default=2)
    made.add_argument(
        "--rounds",
        type=int,
        choices=range(1, 10),
        default=1,
        metavar="N",
        help="more of them on a machine that others use too",
    )
    made.add_argument("--folder", type=Path, help="keep the model here, and use it if it is there already")
    return made


@dataclass
class Bench:
    folder: Path
    shape: Shape
    threads: int
    rounds: int

    @property
    def machine(self) -> str:
        return str(self.run({"trainer": "machine"})["name"])

    def prepare(self) -> None:
        for layers in (self.shape.layers, 2, 3):  # the small ones are for counting operations
            place = self.place(layers)
            if not place.exists():
                tell(f"making a random model of {layers} layers")
                shape = replace(self.shape, layers=layers)
                make_model(place / "model", shape)
                make_adapter(place / "adapter", shape)

    def place(self, layers: int) -> Path:
        return self.folder / f"{self.shape.layers}-{self.shape.hidden}-{layers}"

    def rows(self, shape: str, dtype: str) -> list[Row]:
        replies = chats(shape, self.shape.vocabulary)
        rate = self.rate(dtype)
        rounds = [self.steps(replies, dtype, f"{shape}, {dtype}, round {count + 1}") for count in range(self.rounds)]
        rate = max(rate, self.rate(dtype))
        flops = {
            name: self.flop(self.job(TRAINERS[name], replies, dtype), rounds[0][name]["again"]) for name in TRAINERS
        }
        return [row(rounds, name, flops[name], rate, shape=shape, dtype=dtype) for name in TRAINERS]

    def steps(self, replies: Replies, dtype: str, what: str) -> dict[str, dict[str, Any]]:
        """A round: one step of each trainer."""
        taken: dict[str, dict[str, Any]] = {}
        for name, trainer in TRAINERS.items():
            tell(f"{what}: {name}")
            room = {"room": taken["plain"]["peak"] // 2} if trainer == "small" else {}
            taken[name] = self.run({**self.job(trainer, replies, dtype), **room}, self.shape.layers)
        return taken

    def job(self, trainer: str, replies: Replies, dtype: str) -> dict[str, Any]:
        compare = str(self.folder / f"plain-{dtype}.safetensors")
        return {"trainer": trainer, "replies": replies, "dtype": DTYPES[dtype], "compare": compare}

    def flop(self, job: dict[str, Any], again: int) -> float:
        """All layers are alike, but for the first and the last; of ``again`` the results are computed twice."""
        two, three = (float(self.run({**job, "count": True}, layers)["flop"]) for layers in (2, 3))
        once_more = self.run({**job, "count": True, "again": 1}, 2)["flop"] - two if again else 0.0
        return two + (self.shape.layers - 2) * (three - two) + again * once_more

    def rate(self, dtype: str) -> float:
        """Floating-point operations of large matrix products in a second of a core (of the GPU, where there is one)."""
        return float(self.run({"trainer": "product", "dtype": DTYPES[dtype]})["rate"])

    def run(self, job: dict[str, Any], layers: int = 2) -> dict[str, Any]:
        place = self.place(layers)
        path = self.folder / "job.json"
        whole = {**job, "threads": self.threads, "model": str(place / "model"), "adapter": str(place / "adapter")}
        path.write_text(json.dumps(whole))
        argv = [sys.executable, str(ROOT / "bench/lesson_steps.py"), str(path)]
        settled = {} if job["trainer"] == "plain" else SETTLED  # what our trainer is started with
        done = subprocess.run(argv, capture_output=True, text=True, check=False, env={**os.environ, **settled})
        if done.returncode:
            raise SystemExit(f"{job['trainer']} failed:\n{done.stderr}")
        answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return answer


def row(
    rounds: Sequence[dict[str, dict[str, Any]]], name: str, flop: float, rate: float, *, shape: str, dtype: str
) -> Row:
    def of(key: str) -> float:
        return median(taken[name][key] for taken in rounds)

    def faster(key: str) -> list[float]:
        return sorted(taken["plain"][key] / taken[name][key] for taken in rounds)

    clock = "step_wall" if rounds[0][name]["cuda"] else "step_cpu"
    return Row(
        shape=shape,
        dtype=dtype,
        trainer=name,
        wall=of("step_wall"),
        cpu=of("step_cpu"),
        faster=median(faster(clock)),
        faster_least=faster(clock)[0],
        faster_most=faster(clock)[-1],
        faster_wall=median(faster("step_wall")),
        again_cpu=of("second_cpu") if "second_cpu" in rounds[0][name] else None,
        load_cpu=of("load_cpu"),
        peak_mb=of("peak") / 1e6,
        memory=of("peak") / median(taken["plain"]["peak"] for taken in rounds),
        tflop=flop / 1e12,
        of_peak=flop / of(clock) / rate,
        loss=of("loss"),
        norm=of("norm"),
        apart=of("apart"),
    )


def chats(shape: str, vocabulary: int) -> Replies:
    """Random tokens; the feedback stands six tokens before the end of the prompt, as a chat template puts it."""
    draw = random.Random(1)

    def tokens(count: int) -> list[int]:
        return [draw.randrange(vocabulary) for _ in range(count)]

    system = tokens({"short": 0, "shared": SYSTEM, "long": LONG}[shape])
    made = []
    for _ in range(SAMPLES):
        prompt = [*system, *tokens(PROMPT - SYSTEM if shape == "shared" else PROMPT)]
        hindsight = [*prompt[:-6], *tokens(FEEDBACK), *prompt[-6:]]
        made.append({"prompt": prompt, "hindsight": hindsight, "tokens": tokens(REPLY)})
    return made


def table(rows: Sequence[Row], machine: str) -> str:
    times = ["wall s", "CPU s", "faster", "wall", "again", "+ load"]
    head = ["", "", "", *times, "peak MB", "of plain", "TFLOP", "% of peak", "loss", "gradient", "apart"]
    lines = [machine, "", "| " + " | ".join(head) + " |", "|---|---|---|" + "---:|" * 13]
    return "\n".join([*lines, *map(line, rows)])


def line(row: Row) -> str:
    again = "" if row.again_cpu is None else f"{row.again_cpu:.1f}"
    times = [f"{row.wall:.1f}", f"{row.cpu:.1f}", faster(row), f"{row.faster_wall:.2f}x", again, f"{row.load_cpu:.1f}"]
    cells = [row.shape, row.dtype, row.trainer, *times, f"{row.peak_mb:.0f}", f"{row.memory:.2f}", f"{row.tflop:.2f}"]
    cells += [f"{100 * row.of_peak:.0f}", f"{row.loss:.6f}", f"{row.norm:.5f}", f"{row.apart:.1e}"]
    return "| " + " | ".join(cells) + " |"


def faster(row: Row) -> str:
    spread = f" ({row.faster_least:.1f}-{row.faster_most:.1f})" if row.faster_most > row.faster_least else ""
    return f"{row.faster:.2f}x{spread}"


def tell(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()

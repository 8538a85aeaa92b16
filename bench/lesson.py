"""How fast and how small a lesson's step is, beside the predecessor's, in one run.

    python bench/lesson.py [--json] [--model 0.6b|8b|tiny] [--shape short|shared|long ...] [--dtype bf16|fp32 ...]
                           [--threads N] [--folder DIR]

A random model of the shape of Qwen3-0.6B, LoRA of rank 32 on all linear layers, 4 replies of 128 tokens, KL on. "plain"
is the predecessor's step, written anew from its published algorithm: three full passes for each sample, gradient
checkpointing, all graphs kept until one backward pass. "ours" is what a lesson does when there is memory, "ours, small"
what it does when there is little: the weights stay quantised in the GGUF (Q8_0 here; the numbers are the same in all
formats), and a layer's results are computed again. Each in a process of its own, one after the other, with the same
weights, adapter and tokens. Shapes:

    short    256 prompt tokens, of which nothing is shared
    shared   256 prompt tokens, of which the first 128 are the same system prompt
    long     the same behind a system prompt of 2,048 tokens more

The step is timed without loading; what loading adds is shown beside it, for the predecessor loads for every call and
our trainer stays for the next lesson. "again" is the CPU seconds of our second step, with its memory at hand. "% of
peak": of what this machine's large matrix products reached, before and after, by the floating-point operations that the
step needed.
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
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path = [str(ROOT), *(entry for entry in sys.path[1:] if entry != str(ROOT))]  # this folder has a gguf.py too

from bench.lesson_models import QWEN3_06B, QWEN3_8B, TINY, Shape, make_adapter, make_model  # noqa: E402
from supervisor.executors.local import SETTLED  # noqa: E402

MODELS = {"0.6b": QWEN3_06B, "8b": QWEN3_8B, "tiny": TINY}
DTYPES = {"bf16": "bfloat16", "fp32": "float32"}
TRAINERS = {"plain": "plain", "ours": "fast", "ours, small": "small"}
SAMPLES, PROMPT, REPLY, FEEDBACK, SYSTEM, LONG = 4, 256, 128, 36, 128, 2048


@dataclass(frozen=True)
class Row:
    shape: str
    dtype: str
    trainer: str
    wall: float  # seconds, the step alone
    cpu: float
    faster: float  # plain's CPU seconds for one of ours; on a GPU, wall
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
        bench = Bench(folder, MODELS[options.model], options.threads)
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
    made.add_argument("--folder", type=Path, help="keep the model here, and use it if it is there already")
    return made


@dataclass
class Bench:
    folder: Path
    shape: Shape
    threads: int

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
        taken = {name: self.step(name, replies, dtype, shape) for name in TRAINERS}
        rate = max(rate, self.rate(dtype))
        plain = taken["plain"]
        clock = "step_wall" if plain["cuda"] else "step_cpu"
        return [
            Row(
                shape=shape,
                dtype=dtype,
                trainer=name,
                wall=one["step_wall"],
                cpu=one["step_cpu"],
                faster=plain[clock] / one[clock],
                again_cpu=one.get("again_cpu"),
                load_cpu=one["load_cpu"],
                peak_mb=one["peak"] / 1e6,
                memory=one["peak"] / plain["peak"],
                tflop=one["flop"] / 1e12,
                of_peak=one["flop"] / one[clock] / rate,
                loss=one["loss"],
                norm=one["norm"],
                apart=one["apart"],
            )
            for name, one in taken.items()
        ]

    def step(self, name: str, replies: list[dict[str, list[int]]], dtype: str, shape: str) -> dict[str, Any]:
        tell(f"{shape}, {dtype}: {name}")
        grads = self.folder / f"plain-{dtype}.safetensors"
        job = {"trainer": TRAINERS[name], "replies": replies, "dtype": DTYPES[dtype], "compare": str(grads)}
        two, three = (self.run({**job, "count": True}, layers)["flop"] for layers in (2, 3))
        flop = two + (self.shape.layers - 2) * (three - two)  # all layers are alike, but for the first and the last
        return {**self.run(job, self.shape.layers), "flop": flop}

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


def chats(shape: str, vocabulary: int) -> list[dict[str, list[int]]]:
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
    head = ["", "", "", "wall s", "CPU s", "faster", "again", "+ load", "peak MB", "of plain", "TFLOP", "% of peak"]
    head += ["loss", "gradient", "apart"]
    lines = [machine, "", "| " + " | ".join(head) + " |", "|---|---|---|" + "---:|" * 12]
    return "\n".join([*lines, *map(line, rows)])


def line(row: Row) -> str:
    cells = [row.shape, row.dtype, row.trainer, f"{row.wall:.1f}", f"{row.cpu:.1f}", f"{row.faster:.2f}x"]
    cells += ["" if row.again_cpu is None else f"{row.again_cpu:.1f}", f"{row.load_cpu:.1f}", f"{row.peak_mb:.0f}"]
    cells += [f"{row.memory:.2f}", f"{row.tflop:.2f}"]
    cells += [f"{100 * row.of_peak:.0f}", f"{row.loss:.6f}", f"{row.norm:.5f}", f"{row.apart:.1e}"]
    return "| " + " | ".join(cells) + " |"


def tell(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()

"""One optimiser step of a lesson, in a process of its own: as the predecessor made it, and as we do.

``python bench/lesson_steps.py JOB.json`` prints what it took and gave as a line of JSON. lesson.py makes the jobs.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path = [str(ROOT), *(entry for entry in sys.path[1:] if entry != str(ROOT))]  # this folder has a gguf.py too

import torch  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402
from torch import Tensor  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from supervisor.distill.device import compute_with, multiply_float32_quickly  # noqa: E402
from supervisor.distill.fast import flash  # noqa: E402
from supervisor.distill.fast.kernels import kind  # noqa: E402
from supervisor.distill.job import Training  # noqa: E402
from supervisor.distill.loss import Target, sdpo  # noqa: E402
from supervisor.distill.student import Reply  # noqa: E402
from supervisor.distill.support import top_k, with_tail  # noqa: E402

CUDA = torch.cuda.is_available()
DEVICE = torch.device("cuda" if CUDA else "cpu")
TRAINING = Training(learning_rate=1e-4, alpha=0.5, kl_reg_weight=0.1)
SIDE, PRODUCTS = 2048, 12  # of the matrix products that the machine's rate is taken from


@dataclass(frozen=True)
class Loaded:
    parameters: dict[str, Any]
    step: Callable[[], float]
    again: int = 0  # layers of which ours computes the results again


def main(job: dict[str, Any]) -> dict[str, Any]:
    compute_with(job["threads"])
    if job["trainer"] == "machine":
        return {"name": machine(job["threads"])}
    dtype = getattr(torch, job["dtype"])
    if job["trainer"] != "plain":
        multiply_float32_quickly()
    if job["trainer"] == "product":
        return {"rate": rate(dtype)}
    replies = [Reply(**reply, behaviour=None) for reply in job["replies"]]
    make = plain if job["trainer"] == "plain" else fast
    if job.get("count"):
        return {"flop": counted(make(job, replies, dtype).step)}
    return measured(job, lambda: make(job, replies, dtype))


def measured(job: dict[str, Any], load: Callable[[], Loaded]) -> dict[str, Any]:
    report: dict[str, Any] = {"cuda": CUDA}
    with timed(report, "load"):
        loaded = load()
        parameters, step = loaded.parameters, loaded.step
    report["again"] = loaded.again
    with timed(report, "step"):
        report["loss"] = step()
    report["peak"] = peak()
    grads = {name: parameter.grad.float().cpu() for name, parameter in parameters.items()}
    if job["trainer"] == "plain":
        save_file(grads, job["compare"])
    theirs = load_file(job["compare"])
    if job["trainer"] != "plain":
        for parameter in parameters.values():
            parameter.grad = None
        with timed(report, "second"):
            step()
    report["norm"] = length(list(grads.values()))
    report["apart"] = length([grads[name] - grad for name, grad in theirs.items()]) / length(list(theirs.values()))
    return report


def length(parts: list[Tensor]) -> float:
    return float(torch.stack([part.norm() for part in parts]).norm())


@contextmanager
def timed(report: dict[str, Any], name: str) -> Iterator[None]:
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    if CUDA:
        torch.cuda.synchronize()
    report[f"{name}_wall"], report[f"{name}_cpu"] = time.perf_counter() - wall, time.process_time() - cpu


def peak() -> int:
    """Bytes: of the GPU's memory, where there is one; else of this process's, since it began."""
    return torch.cuda.max_memory_allocated() if CUDA else of_this_process("VmHWM")


def used() -> int:
    return torch.cuda.memory_allocated() if CUDA else of_this_process("VmRSS")


def of_this_process(name: str) -> int:
    """In bytes, as Linux tells it."""
    return int(Path("/proc/self/status").read_text().split(f"{name}:")[1].split()[0]) * 1024


def counted(step: Callable[[], float]) -> float:
    """Floating-point operations of all matrix products; those of attention by PyTorch, which flash.cpp hides."""
    flash.able = lambda _q: None
    with FlopCounterMode(display=False) as counter:
        step()
    return float(counter.get_total_flops())


def rate(dtype: torch.dtype) -> float:
    """Operations per second of a core; on a GPU, of all of it."""
    matrix = torch.randn(SIDE, SIDE, device=DEVICE).to(dtype)
    report: dict[str, Any] = {}
    torch.mm(matrix, matrix)
    with timed(report, "step"):
        for _ in range(PRODUCTS):
            torch.mm(matrix, matrix)
    return PRODUCTS * 2.0 * SIDE**3 / float(report["step_wall" if CUDA else "step_cpu"])


def machine(threads: int) -> str:
    if CUDA:
        return f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    able = torch.cpu.get_capabilities()
    known = ", ".join(name for name in ("amx_bf16", "avx512_bf16", "avx512_f", "avx2") if able.get(name))
    load = f"load {os.getloadavg()[0]:.1f} at the end"
    ours = f"kernels {kind() or 'not compiled'}"
    return f"{able.get('cpu_name', 'CPU')} ({known}), {threads} threads, torch {torch.__version__}, {ours}, {load}"


def plain(job: dict[str, Any], replies: list[Reply], dtype: torch.dtype) -> Loaded:
    """The predecessor's: three full passes for each sample, checkpointed; one backward when all graphs are there."""
    import peft
    import transformers

    transformers.logging.set_verbosity_error()
    base = transformers.AutoModelForCausalLM.from_pretrained(job["model"], dtype=dtype).to(DEVICE)
    model = peft.PeftModel.from_pretrained(base, job["adapter"], is_trainable=True)
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model.enable_input_require_grads()
    model.train()

    def scores(context: list[int], tokens: list[int]) -> Tensor:
        ids = torch.tensor([[*context, *tokens]], device=DEVICE)
        logits = model(input_ids=ids, use_cache=False).logits  # (1, P+T, V)
        return torch.log_softmax(logits[0, len(context) - 1 : -1].float(), dim=-1)  # (T, V)

    def loss(reply: Reply) -> Tensor:
        own = torch.tensor(reply.tokens, device=DEVICE)[:, None]
        with torch.no_grad(), model.disable_adapter():
            teacher = scores(reply.hindsight, reply.tokens)
            base = scores(reply.prompt, reply.tokens).gather(-1, own)[:, 0]
        support = top_k(teacher, TRAINING.teacher_top_k)
        goal = Target(support, with_tail(teacher.gather(-1, support)), base, base)
        student = scores(reply.prompt, reply.tokens)
        return sdpo(student.gather(-1, support), student.gather(-1, own)[:, 0], goal, TRAINING).total

    def step() -> float:
        total = torch.stack([loss(reply) for reply in replies]).mean()
        total.backward()
        return float(total.detach())

    return Loaded({name: one for name, one in model.named_parameters() if one.requires_grad}, step)


def fast(job: dict[str, Any], replies: list[Reply], dtype: torch.dtype) -> Loaded:
    """Ours, as a lesson runs it when there is memory, or little (``small``): as much as ``room`` says, in bytes."""
    from supervisor.distill.fast.base import files_of, load_decoder, stays_packed
    from supervisor.distill.fast.lora import read_adapter
    from supervisor.distill.fast.student import FastStudent, asked
    from supervisor.distill.fast.thrift import Thrift, choose, need
    from supervisor.distill.fast.tree import pack

    small, model = job["trainer"] == "small", Path(job["model"])
    always = stays_packed(DEVICE, dtype)
    path = model / "model.gguf" if small or always else model
    files = files_of(path)
    assert files is not None
    adapter = read_adapter(Path(job["adapter"]), files, device=DEVICE)
    rows = len(pack([asked(reply) for reply in replies]).tokens)
    thrift = Thrift(packed=small or always, again=job.get("again", 0), rows=rows)
    if "room" in job:
        parameters = sum(prod(size) for size in files.sizes.values())
        needed = need(files.shape, parameters, adapter.shape.r, dtype.itemsize)
        thrift = choose(needed, rows, job["room"] - used() - path.stat().st_size, packed=always)
    decoder = load_decoder(files, dtype, packed=thrift.packed, device=DEVICE)
    student = FastStudent(decoder, files, adapter, None, again=thrift.again, rows=thrift.rows)

    def step() -> float:
        goals = student.goals(replies, TRAINING, lambda _done: None)
        steps = student.gradients(replies, goals, TRAINING, lambda _done: None)
        return float(torch.stack([one.losses.total.detach() for one in steps]).mean())

    return Loaded(student.parameters, step, thrift.again)


if __name__ == "__main__":
    print(json.dumps(main(json.loads(Path(sys.argv[1]).read_text()))))

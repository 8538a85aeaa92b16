"""How fast a lesson's adapter becomes the GGUF that is served, and in how much memory.

    python bench/gguf.py [--json] [--rounds N] [--layers N]

A random LoRA (rank 32, all linear layers, float32 as PEFT saves it) of the shape of Qwen3-8B, 87 million numbers, is
converted by `export_adapter` and by a plain conversion, which loads everything with safetensors and adds it to a
`gguf.GGUFWriter`, and checks nothing. Both in processes of their own, by turns, from memory into memory. The base GGUF
is a header over a file with nothing in it: only its names and shapes are read.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path = [str(ROOT), *(entry for entry in sys.path[1:] if entry != str(ROOT))]  # this folder has a gguf.py too

MB, RANK, ALPHA = 10**6, 32, 64
HIDDEN, INNER, VOCABULARY, HEADS, KEY_HEADS, WIDTH = 4096, 12288, 151936, 32, 8, 128
SIDES = {  # (inputs, outputs)
    "self_attn.q_proj": (HIDDEN, HEADS * WIDTH),
    "self_attn.k_proj": (HIDDEN, KEY_HEADS * WIDTH),
    "self_attn.v_proj": (HIDDEN, KEY_HEADS * WIDTH),
    "self_attn.o_proj": (HEADS * WIDTH, HIDDEN),
    "mlp.gate_proj": (HIDDEN, INNER),
    "mlp.up_proj": (HIDDEN, INNER),
    "mlp.down_proj": (INNER, HIDDEN),
}


@dataclass(frozen=True)
class Row:
    name: str
    seconds: float  # medians
    cpu_seconds: float
    mb_per_s: float
    peak_mb: float


def adapter_folder(folder: Path, layers: int) -> int:
    """PEFT's two files; bytes of the weights."""
    import torch
    from safetensors.torch import save_file

    folder.mkdir()
    generator, tensors = torch.Generator().manual_seed(1), {}
    for layer in range(layers):
        for name, (inputs, outputs) in SIDES.items():
            for side, shape in {"A": (RANK, inputs), "B": (outputs, RANK)}.items():
                values = torch.randn(shape, generator=generator) * 0.01
                tensors[f"base_model.model.model.layers.{layer}.{name}.lora_{side}.weight"] = values
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return (folder / "adapter_model.safetensors").stat().st_size


def base_file(path: Path, layers: int) -> None:
    """A model of that shape whose weights are a hole in the file."""
    import gguf
    import numpy as np

    writer = gguf.GGUFWriter(path, "qwen3")
    writer.add_block_count(layers)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEY_HEADS)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN3, layers)
    shapes = {"token_embd.weight": (VOCABULARY, HIDDEN)}
    for layer in range(layers):
        for name, (inputs, outputs) in SIDES.items():
            shapes[f"{names.get_name(f'model.layers.{layer}.{name}')}.weight"] = (outputs, inputs)
    for name, shape in shapes.items():
        writer.add_tensor_info(name, shape, np.dtype(np.float16), 2 * shape[0] * shape[1])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size + 64 + 2 * sum(rows * columns for rows, columns in shapes.values()))


def ours(adapter: Path, base: Path, out: Path) -> Callable[[], None]:
    from supervisor.distill.gguf import export_adapter

    return lambda: export_adapter(adapter, out, base=base)


def plain(adapter: Path, base: Path, out: Path) -> Callable[[], None]:
    import gguf
    import torch
    from safetensors.torch import load_file

    def convert() -> None:
        loaded = load_file(adapter / "adapter_model.safetensors")
        layers = 1 + max(int(name.split(".")[4]) for name in loaded)
        names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN3, layers)
        writer = gguf.GGUFWriter(out, "qwen3")
        writer.add_type(gguf.GGUFType.ADAPTER)
        writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
        writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, ALPHA)
        for name, values in loaded.items():
            module, _, side = name.removeprefix("base_model.model.").removesuffix(".weight").rpartition(".lora_")
            tensor = f"{names.get_name(module)}.weight.lora_{side.lower()}"
            writer.add_tensor(tensor, values.to(torch.float16).numpy())
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()

    return convert


WAYS = {"export_adapter": ours, "plain": plain}


def one_run(way: str, folder: Path) -> dict[str, float]:
    """In this process: modules are loaded before the clock starts."""
    convert = WAYS[way](folder / "adapter", folder / "base.gguf", folder / f"{way}.gguf")
    started, spent = time.perf_counter(), time.process_time()
    convert()
    taken = {"seconds": time.perf_counter() - started, "cpu_seconds": time.process_time() - spent}
    status = Path("/proc/self/status").read_text()  # getrusage would count what the parent held before it forked
    return taken | {"peak": int(status.split("VmHWM:")[1].split()[0]) * 1024}


def measure(folder: Path, size: int, rounds: int) -> list[Row]:
    taken: dict[str, list[dict[str, float]]] = {name: [] for name in WAYS}
    for number in range(rounds):
        for name in sorted(WAYS, reverse=number % 2 == 1):  # neither is always first
            argv = [sys.executable, __file__, "--run", name, str(folder)]
            answer = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
            taken[name].append(json.loads(answer.splitlines()[-1]))
    return [row(name, runs, size) for name, runs in taken.items()]


def row(name: str, runs: list[dict[str, float]], size: int) -> Row:
    seconds, cpu, peak = (statistics.median(run[what] for run in runs) for what in ("seconds", "cpu_seconds", "peak"))
    return Row(name, seconds, cpu, size / MB / seconds, peak / MB)


def same(folder: Path) -> bool:
    """Whether both wrote the same numbers."""
    import gguf

    one, other = ({t.name: t.data.tobytes() for t in gguf.GGUFReader(folder / f"{name}.gguf").tensors} for name in WAYS)
    return one == other


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--layers", type=int, default=36)
    parser.add_argument("--run", nargs=2, metavar=("WAY", "FOLDER"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.run:
        print(json.dumps(one_run(given.run[0], Path(given.run[1]))))
        return
    memory = Path("/dev/shm")  # noqa: S108 - memory, where Linux has it
    with tempfile.TemporaryDirectory(prefix="clawlama-bench-", dir=memory if memory.is_dir() else None) as place:
        folder = Path(place)
        size = adapter_folder(folder / "adapter", given.layers)
        base_file(folder / "base.gguf", given.layers)
        rows = measure(folder, size, given.rounds)
        written, equal = (folder / "plain.gguf").stat().st_size, same(folder)
    if given.json:
        told = {"mb_read": size / MB, "mb_written": written / MB, "same": equal, "rows": [asdict(one) for one in rows]}
        print(json.dumps(told))
        return
    print(f"{size / MB:.0f} MB of float32 to {written / MB:.0f} MB of half precision, median of {given.rounds} rounds;")
    print(f"both files hold the same numbers: {'yes' if equal else 'NO'}\n")
    print("| | seconds | CPU | MB/s read | peak memory, MB |")
    print("|---|---|---|---|---|")
    for one in rows:
        print(f"| {one.name} | {one.seconds:.2f} | {one.cpu_seconds:.2f} | {one.mb_per_s:.0f} | {one.peak_mb:.0f} |")


if __name__ == "__main__":
    main()

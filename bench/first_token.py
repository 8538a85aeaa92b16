"""How long a person waits for the first word, with and without the turn that ClawLama takes at its start.

    python bench/first_token.py [--json] [--layers N] [--hidden N]

A random model of the given shape is served by the embedded llama.cpp behind the real OpenClaw, once with OpenClaw's
full prompt and once with the lean one. The "cold" column is the turn that ClawLama takes itself after the start: what
the first person would wait for without it, on the same machine in the same run. Times are from request to first token
at our API; OpenClaw's own second or so before that is the same in all columns.
"""

import argparse
import json
import shutil
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import anyio

ROOT = Path(__file__).resolve().parent.parent
sys.path = [str(ROOT), *(entry for entry in sys.path[1:] if entry != str(ROOT))]  # this folder has a gguf.py too

from supervisor.boot import booted  # noqa: E402
from supervisor.distill.gguf import export_model  # noqa: E402
from supervisor.gateway.client import ask  # noqa: E402
from supervisor.journal.journal import open_journal  # noqa: E402
from supervisor.log import set_up_logging  # noqa: E402
from supervisor.preflight import free_port  # noqa: E402
from supervisor.settings.sources import load_settings  # noqa: E402

TURNS = ("What is tea?", "And coffee?")


@dataclass(frozen=True)
class Row:
    prompt: str
    prompt_tokens: int
    cold_s: float
    first_s: float
    second_s: float


def random_model(folder: Path, *, layers: int, hidden: int) -> int:
    """A Qwen3 of this shape with tiny-chat's tokenizer, as folder and GGUF; its number of parameters."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    shutil.copytree(ROOT / "models" / "tiny-chat", folder, ignore=shutil.ignore_patterns("*.gguf", "*.safetensors"))
    tiny = json.loads((folder / "config.json").read_text())
    torch.manual_seed(0)
    heads = hidden // 64
    config = Qwen3Config(
        vocab_size=tiny["vocab_size"],
        hidden_size=hidden,
        intermediate_size=3 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads // 2,
        head_dim=64,
        max_position_embeddings=32768,
        tie_word_embeddings=True,
        eos_token_id=tiny.get("eos_token_id"),
        bos_token_id=tiny.get("bos_token_id"),
    )
    model = Qwen3ForCausalLM(config).half()
    model.save_pretrained(folder)
    export_model(folder, folder / "model.gguf")
    return sum(parameter.numel() for parameter in model.parameters())


async def measure(model: Path, data: Path, lean: str) -> Row:
    settings = load_settings(
        data=data,
        model=str(model),
        lean=lean,
        parallel=1,
        max_tokens=16,
        api_port=free_port(),
        openclaw_port=free_port(),
    )
    async with booted(settings, lambda line: print(f"  {line}", file=sys.stderr), show_output=False) as up:
        for turn in TURNS:
            async for _ in ask(up.running.openclaw_url, up.running.openclaw_token, turn, session="bench"):
                pass
        async with open_journal(f"sqlite:///{data}/journal.db") as journal:
            second, first = [one.ttft_s or 0.0 for one in await journal.completions(2)]
    return Row("full" if lean == "off" else "lean", up.up.prompt_tokens or 0, up.up.prompt_s or 0.0, first, second)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--hidden", type=int, default=768)
    given = parser.parse_args()
    set_up_logging("error")
    with tempfile.TemporaryDirectory(prefix="clawlama-bench-") as folder:
        place = Path(folder)
        parameters = random_model(place / "model", layers=given.layers, hidden=given.hidden)
        rows = [anyio.run(measure, place / "model", place / lean, lean) for lean in ("off", "on")]
    if given.json:
        print(json.dumps({"parameters": parameters, "rows": [asdict(row) for row in rows]}))
        return
    print(f"random Qwen3 of {parameters / 1e6:.0f} M parameters, f16, embedded llama.cpp; seconds to the first token\n")
    print("| prompt | its tokens | cold | first turn | second turn |")
    print("|---|---|---|---|---|")
    for row in rows:
        print(f"| {row.prompt} | {row.prompt_tokens} | {row.cold_s:.2f} | {row.first_s:.2f} | {row.second_s:.2f} |")


if __name__ == "__main__":
    main()

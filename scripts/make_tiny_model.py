"""Make models/tiny-chat from nothing: generate chats, train, measure, write.

python -m scripts.make_tiny_model            # about ten minutes of two cores
python -m scripts.make_tiny_model --steps 20 --out /tmp/try
"""

from __future__ import annotations

import argparse
import json
import random
import time
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerFast, Qwen3ForCausalLM
from transformers.utils import logging as transformers_logging

from scripts.tiny_model import training
from scripts.tiny_model.card import card
from scripts.tiny_model.held_out import STYLE_PROMPTS, prompts
from scripts.tiny_model.report import measure
from scripts.tiny_model.tokenizer import train_tokenizer
from supervisor.distill.gguf import export_model


def main() -> None:
    options = arguments()
    torch.set_num_threads(options.threads)
    torch.use_deterministic_algorithms(mode=True)
    transformers_logging.disable_progress_bar()
    begun = time.monotonic(), time.process_time()
    tokenizer = train_tokenizer(options.seed)
    model = training.new_model(tokenizer, options.seed)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {len(tokenizer)} tokens, seed {options.seed}")
    recipe = training.Recipe(steps=options.steps, seed=options.seed)
    training.train(model, tokenizer, recipe, lambda progress: show(progress, options.steps))
    spent = time.monotonic() - begun[0], time.process_time() - begun[1]
    save(model, tokenizer, options.out)
    report = measure(model, tokenizer, STYLE_PROMPTS)
    text = report.text()
    (options.out / "README.md").write_text(card(options.steps, options.seed, options.threads, spent, text))
    print(text)
    print(
        f"trained in {spent[0]:.0f} s ({spent[1]:.0f} s of CPU); wrote {options.out} ({megabytes(options.out):.1f} MB)"
    )


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1300, help="training steps (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="same seed and threads, same weights (default %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (default %(default)s)")
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parents[1] / "models" / "tiny-chat", help="folder to write"
    )
    options = parser.parse_args()
    if options.steps < 1 or options.threads < 1:
        parser.error("--steps and --threads must be at least 1")
    return options


def show(progress: training.Progress, steps: int) -> None:
    if progress.step % 20 and progress.step != steps:
        return
    left = progress.seconds / progress.step * (steps - progress.step)
    print(
        f"step {progress.step}/{steps}  loss {progress.loss:.3f}  {progress.tokens / progress.seconds:,.0f} tokens/s"
        f"  {left:.0f} s left",
        flush=True,
    )


def save(model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """Round to f16 first, so that safetensors and GGUF hold the very same values."""
    out.mkdir(parents=True, exist_ok=True)
    for weight in model.parameters():
        weight.data = weight.data.half().float()
    model.generation_config.do_sample = False  # what is served unless a request wants otherwise
    model.half().save_pretrained(out)
    model.float()
    # Stored in 16 bits, computed in 32: half precision is slow and less exact on CPUs.
    config = json.loads((out / "config.json").read_text())
    (out / "config.json").write_text(json.dumps(config | {"dtype": "float32"}, indent=2) + "\n")
    tokenizer.save_pretrained(out)
    export_model(out, out / "tiny-chat.gguf")
    (out / "prompts.json").write_text(json.dumps(prompts(random.Random(1)), indent=1, ensure_ascii=False) + "\n")


def megabytes(folder: Path) -> float:
    return sum(file.stat().st_size for file in folder.iterdir() if file.is_file()) / 1e6


if __name__ == "__main__":
    main()

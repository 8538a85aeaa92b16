"""Request options: types as Ollama checks them, and which of them a running model cannot change."""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.fakes.ollama.failures import Refused, bad_request
from tests.fakes.ollama.settings import FOREVER, duration

INTEGERS = {"num_keep", "seed", "num_predict", "top_k", "repeat_last_n", "num_ctx", "num_batch", "num_gpu", "main_gpu"}
INTEGERS |= {"num_thread", "mirostat", "draft_num_predict"}
FLOATS = {"top_p", "min_p", "typical_p", "temperature", "repeat_penalty", "presence_penalty", "frequency_penalty"}
FLOATS |= {"mirostat_tau", "mirostat_eta", "tfs_z"}
BOOLEANS = {"use_mmap", "use_mlock", "numa", "low_vram", "penalize_newline"}
DEFAULTS: dict[str, Any] = {
    "num_predict": -1,
    "num_keep": 4,
    "temperature": 0.8,
    "top_k": 40,
    "top_p": 0.9,
    "min_p": 0.0,
    "typical_p": 1.0,
    "repeat_last_n": 64,
    "repeat_penalty": 1.1,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "seed": -1,
    "num_batch": 512,
    "num_gpu": -1,
    "num_thread": 0,
}
SAMPLING = {"num_predict": "n_predict", "num_keep": "n_keep", "seed": "seed", "stop": "stop"}
SAMPLING |= {name: name for name in ("temperature", "top_k", "top_p", "min_p", "typical_p", "repeat_last_n")}
SAMPLING |= {name: name for name in ("repeat_penalty", "presence_penalty", "frequency_penalty")}


@dataclass(frozen=True)
class RunnerOptions:
    """What a model is loaded with; asking for something else loads it anew."""

    context: int
    batch: int
    gpu_layers: int
    main_gpu: int
    threads: int
    mmap: bool | None
    shift: bool  # whether a full context makes room for more of the reply


def check(options: Mapping[str, Any]) -> dict[str, Any]:
    """Unknown names are passed over. Raises Refused (500, as Ollama answers) for a wrong type."""
    checked: dict[str, Any] = {}
    for name, value in options.items():
        if value is None:
            continue
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if name in INTEGERS:
            if not number:
                raise Refused(500, f'option "{name}" must be of type integer')
            checked[name] = int(value)
        elif name in FLOATS:
            if not number:
                raise Refused(500, f'option "{name}" must be of type float32')
            checked[name] = float(value)
        elif name in BOOLEANS:
            if not isinstance(value, bool):
                raise Refused(500, f'option "{name}" must be of type boolean')
            checked[name] = value
        elif name == "stop":
            checked[name] = stops(value)
    return checked


def stops(value: Any) -> list[str]:
    if not isinstance(value, list):
        raise Refused(500, 'option "stop" must be of type array')
    if not all(isinstance(item, str) for item in value):
        raise Refused(500, 'option "stop" must be of an array of strings')
    return value


def runner_options(
    options: Mapping[str, Any], *, server_context: int, trained_context: int, shift: bool
) -> RunnerOptions:
    context = max(4, options.get("num_ctx") or server_context or 4096)
    return RunnerOptions(
        context=min(context, trained_context) if trained_context else context,
        batch=options["num_batch"],
        gpu_layers=options["num_gpu"],
        main_gpu=options.get("main_gpu", 0),
        threads=options["num_thread"] or max(1, (os.cpu_count() or 2) // 2),
        mmap=options.get("use_mmap"),
        shift=shift,
    )


def sampling(options: Mapping[str, Any]) -> dict[str, Any]:
    """The same in llama.cpp's names."""
    return {theirs: options[ours] for ours, theirs in SAMPLING.items() if ours in options}


def keep_alive(value: Any) -> float | None:
    """Seconds; None when not given. A number is seconds, a text a Go duration; negative is forever."""
    if value is None:
        return None
    if isinstance(value, str):
        try:
            seconds = duration(value)
        except ValueError as exc:
            raise bad_request(str(exc)) from exc
    elif isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        seconds = float(value)
    else:
        raise bad_request(f"Unsupported type: '{type(value).__name__}'")
    return FOREVER if seconds < 0 else seconds

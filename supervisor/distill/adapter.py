"""LoRA on transformers' modules, by PEFT: in and out of an adapter folder.

Files: PEFT's ``adapter_model.safetensors`` and ``adapter_config.json``; ``optimizer.safetensors`` (see ``optimizer``),
``adapter.gguf`` for llama.cpp.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import PreTrainedModel

from supervisor.distill.job import LoraShape
from supervisor.errors import DistillError

ADAPTER = "default"
FUSED = {  # matrices that Phi-3 keeps as one
    "q_proj": "qkv_proj",
    "k_proj": "qkv_proj",
    "v_proj": "qkv_proj",
    "gate_proj": "gate_up_proj",
    "up_proj": "gate_up_proj",
}


def attach(model: PreTrainedModel, parent: Path | None, shape: LoraShape) -> PeftModel:
    """Wrap the base: a new adapter (it starts as the base itself, B is zero) or a parent's weights, trainable."""
    if parent is None:
        return get_peft_model(
            model,
            LoraConfig(
                r=shape.r, lora_alpha=shape.alpha, target_modules=targets_of(model, shape), task_type="CAUSAL_LM"
            ),
        )
    return PeftModel.from_pretrained(model, parent, is_trainable=True)


@contextmanager
def attached(base: PreTrainedModel, parent: Path | None, shape: LoraShape) -> Iterator[PeftModel]:
    """The wrapped base for the block; afterwards it is bare again, as it was before, and can be wrapped anew."""
    model = attach(base, parent, shape)
    try:
        yield model
    finally:
        model.unload()


def targets_of(model: PreTrainedModel, shape: LoraShape) -> list[str]:
    """The shape's modules by the names that this model has for them. DistillError when it has no such module."""
    present = {path.rpartition(".")[2] for path, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    found = [name if name in present else FUSED.get(name, name) for name in shape.target_modules]
    if missing := sorted(set(found) - present):
        raise DistillError(f"this model has no {missing[0]} to adapt; it has {', '.join(sorted(present))}")
    return list(dict.fromkeys(found))


def shape_of(model: PeftModel) -> LoraShape:
    config = model.peft_config[ADAPTER]
    return LoraShape(r=config.r, alpha=config.lora_alpha, target_modules=tuple(sorted(config.target_modules)))


@contextmanager
def wearing(model: PeftModel, folder: Path | None, *, name: str) -> Iterator[None]:
    """The model as another version: the adapter in ``folder``, or the bare base."""
    if folder is None:
        with model.disable_adapter():
            yield
        return
    if not (folder / "adapter_model.safetensors").exists():
        raise DistillError(f"{folder} holds no adapter; the version that wrote a reply of this lesson is gone")
    if name not in model.peft_config:
        model.load_adapter(folder, adapter_name=name, is_trainable=False)
    model.set_adapter(name)
    try:
        yield
    finally:
        model.set_adapter(ADAPTER)


def save(model: PeftModel, out: Path) -> None:
    """Write PEFT's files; the GGUF is made from them afterwards."""
    model.save_pretrained(out, selected_adapters=[ADAPTER])
    config = out / "adapter_config.json"
    written = json.loads(config.read_text())
    # PEFT keeps the modules in a set, whose order changes from process to process.
    config.write_text(json.dumps(written | {"target_modules": sorted(written["target_modules"])}, indent=2) + "\n")
    (out / "README.md").unlink(missing_ok=True)  # PEFT's empty model card


def trainable(model: PeftModel) -> dict[str, torch.nn.Parameter]:
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}

"""A chat model with random weights, and lessons for it."""

from pathlib import Path

from supervisor.distill.gguf import export_model
from supervisor.distill.job import DistillJob, LoraShape, Sample, Training
from tests.distill import random_models

TEMPLATE = (
    "{% if tools %}{{ tools | tojson }}{% endif %}"
    "{% for m in messages %}{{ '<' + m.role + '>' + m.content + eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
)


def chat_model(folder: Path) -> Path:
    """A saved model with a chat template, and its GGUF beside it."""
    random_models.qwen3(folder)
    tokenizer = random_models.tokenizer()
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    export_model(folder, folder / "model.gguf", dtype="f32")
    return folder


def sample(name: str = "one", reply: str = "Hello there! 😊🎉", **more: object) -> Sample:
    question = {"role": "user", "content": f"how are you, {name}?"}
    told = {"role": "user", "content": f"how are you, {name}? (a reader said: no emojis)"}
    values: dict[str, object] = {
        "id": name,
        "messages": (question,),
        "hindsight": (told,),
        "reply": {"role": "assistant", "content": reply},
    }
    return Sample.model_validate(values | more)


def training(**values: object) -> Training:
    recipe: dict[str, object] = {"learning_rate": 1e-3, "alpha": 0.05, "kl_reg_weight": 0.01, "updates": 2}
    return Training.model_validate(recipe | values)


def job(base: Path, out: Path, *, parent: Path | None = None, **values: object) -> DistillJob:
    out.mkdir(parents=True)
    return DistillJob(
        id="les-test",
        base=base,
        base_gguf=base / "model.gguf",
        parent=parent,
        out=out,
        samples=(sample("one"), sample("two", "I don't know. 🎉")),
        training=training(**values),
        lora=LoraShape(r=4, alpha=8),
        threads=1,
    )

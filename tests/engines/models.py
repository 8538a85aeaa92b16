"""A small model with random weights, an adapter for it, and what transformers says of both."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from supervisor.distill.gguf import export_adapter
from supervisor.engines.engine import Version
from tests.distill.lessons import chat_model
from tests.distill.random_models import random_adapter
from tests.engines.engines import BASE, QUESTION


@dataclass(frozen=True)
class Trained:
    """A base model's folder and an adapter for it, the adapter's GGUF among its files."""

    base: Path
    adapter: Path

    @property
    def version(self) -> Version:
        return Version("v0001", self.adapter / "adapter.gguf")

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        return AutoTokenizer.from_pretrained(self.base)

    def ids(self, text: str) -> tuple[int, ...]:
        """Of a whole reply, the closing token included."""
        return (*self.tokenizer(text)["input_ids"], self.tokenizer.eos_token_id)

    @property
    def prompt(self) -> list[int]:
        """The ids of QUESTION as it is asked."""
        text = self.tokenizer.apply_chat_template(QUESTION, tokenize=False, add_generation_prompt=True)
        found: list[int] = self.tokenizer(text)["input_ids"]
        return found

    def logprobs(self, token_ids: Sequence[int], *, tuned: bool) -> list[float]:
        """Of these tokens as the reply to QUESTION, according to transformers."""
        model = AutoModelForCausalLM.from_pretrained(self.base, dtype=torch.float32)
        model = PeftModel.from_pretrained(model, self.adapter) if tuned else model
        with torch.inference_mode():
            logits = model(torch.tensor([[*self.prompt, *token_ids]])).logits[0]  # (tokens, vocabulary)
        rows = logits.log_softmax(-1)[len(self.prompt) - 1 : -1]
        found: list[float] = rows.gather(-1, torch.tensor(token_ids)[:, None])[:, 0].tolist()
        return found


def trained(folder: Path) -> Trained:
    torch.manual_seed(5)
    made = Trained(chat_model(folder / BASE), folder / "adapter")
    random_adapter(AutoModelForCausalLM.from_pretrained(made.base, dtype=torch.float32), made.adapter)
    export_adapter(made.adapter, made.version.gguf, base=made.base / "model.gguf")
    return made

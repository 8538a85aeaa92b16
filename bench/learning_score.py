"""How likely a version finds a text and how sure it is, in PyTorch on the whole vocabulary: no server tells that."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import torch
from peft import PeftModel
from transformers import PreTrainedTokenizerBase

from supervisor.distill.base import load_base

Chat = tuple[str, str]  # a question and the reply to it


@dataclass(frozen=True)
class Scores:
    """Per chat and reply token, the closing token included; nats."""

    logprobs: list[list[float]]
    entropies: list[list[float]]

    @property
    def entropy(self) -> float:
        """Mean over all tokens."""
        return fmean(value for reply in self.entropies for value in reply)

    def parted(self, count: int) -> "tuple[Scores, Scores]":
        """Those of the first ``count`` chats, and the others."""
        first = Scores(self.logprobs[:count], self.entropies[:count])
        return first, Scores(self.logprobs[count:], self.entropies[count:])


@dataclass(frozen=True)
class Scorer:
    base: Path

    @torch.inference_mode()
    def scores(self, version: Path | None, chats: Sequence[Chat]) -> Scores:
        """Of the replies under the adapter in this folder, or the bare base."""
        base, tokenizer = load_base(self.base)
        model = (PeftModel.from_pretrained(base, version) if version else base).eval()
        scores = Scores([], [])
        for question, reply in chats:
            prompt, whole = spelled(tokenizer, question), spelled(tokenizer, question, reply)
            logits = model(input_ids=torch.tensor([whole])).logits[0, len(prompt) - 1 : -1]  # (T, V)
            log_probs = torch.log_softmax(logits.float(), dim=-1)  # (T, V)
            own = log_probs.gather(-1, torch.tensor(whole[len(prompt) :])[:, None])[:, 0]  # (T,)
            scores.logprobs.append(own.tolist())
            scores.entropies.append((-(log_probs.exp() * log_probs).sum(-1)).tolist())
        return scores


def spelled(tokenizer: PreTrainedTokenizerBase, question: str, reply: str | None = None) -> list[int]:
    """Token ids up to where the reply begins, or to its closing token."""
    chat = [{"role": "user", "content": question}]
    text = str(tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False))
    ids: list[int] = tokenizer(
        text if reply is None else f"{text}{reply}{tokenizer.eos_token}", add_special_tokens=False
    )["input_ids"]
    return ids

"""Training from scratch: generated chats in, weights out."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from scripts.tiny_model.chats import sample_chat
from scripts.tiny_model.tokenizer import render

Encoded = tuple[list[int], list[float]]  # token ids; the weight of each in the loss, mostly 0
MAX_TOKENS = 1024
POOL = 1024  # chats sorted by length together, so that a batch holds little padding


@dataclass(frozen=True)
class Recipe:
    steps: int
    seed: int
    tokens: int = 4096  # per step, padding included
    rate: float = 3e-3
    warmup: int = 80


@dataclass(frozen=True)
class Progress:
    step: int
    loss: float
    tokens: int
    seconds: float


def new_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> Qwen3ForCausalLM:
    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=192,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=64,
        max_position_embeddings=4096,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        rms_norm_eps=1e-6,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        use_cache=True,
    )
    return Qwen3ForCausalLM(config)


def train(
    model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerFast, recipe: Recipe, report: Callable[[Progress], None]
) -> None:
    """Train in place; ``report`` is called after every step."""
    optimizers = optimizers_for(model, recipe)
    model.train()
    seen, begun = 0, time.monotonic()
    for step, (ids, weights) in zip(range(1, recipe.steps + 1), batches(tokenizer, recipe), strict=False):
        for group in (group for optimizer in optimizers for group in optimizer.param_groups):
            group["lr"] = recipe.rate * schedule(step, recipe)
        loss = chat_loss(model, ids, weights)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        model.zero_grad(set_to_none=True)
        seen += ids.numel()
        report(Progress(step, loss.item(), seen, time.monotonic() - begun))
    model.eval()


def optimizers_for(model: Qwen3ForCausalLM, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Muon for the matrices between the layers (it needs fewer steps here), AdamW for embedding and norms."""
    matrices = [p for name, p in model.named_parameters() if p.dim() == 2 and "embed" not in name]
    rest = [p for name, p in model.named_parameters() if p.dim() != 2 or "embed" in name]
    return [
        torch.optim.Muon(matrices, lr=recipe.rate, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=recipe.rate, betas=(0.9, 0.98), weight_decay=0.0, fused=True),
    ]


def schedule(step: int, recipe: Recipe) -> float:
    """Share of the full rate: linear up, then a cosine down to a fiftieth."""
    if step < recipe.warmup:
        return step / recipe.warmup
    done = (step - recipe.warmup) / max(1, recipe.steps - recipe.warmup)
    return 0.02 + 0.49 * (1 + math.cos(math.pi * done))


def chat_loss(model: Qwen3ForCausalLM, ids: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean of the cross entropy.

    ids      (B, T)  token ids, padded on the right
    weights  (B, T)  of each token in the loss; 0 for what is only read
    """
    hidden = model.model(ids).last_hidden_state[:, :-1]  # (B, T-1, H); causal, so padding on the right needs no mask
    chosen = weights[:, 1:] > 0
    logits = model.lm_head(hidden[chosen])  # (N, V)
    each = functional.cross_entropy(logits.float(), ids[:, 1:][chosen], reduction="none")
    share = weights[:, 1:][chosen]
    return (each * share).sum() / share.sum()


def batches(tokenizer: PreTrainedTokenizerFast, recipe: Recipe) -> Iterator[tuple[Tensor, Tensor]]:
    rng = random.Random(recipe.seed)
    while True:
        pool = sorted((encode(tokenizer, rng) for _ in range(POOL)), key=lambda pair: len(pair[0]))
        groups: list[list[Encoded]] = []
        group: list[Encoded] = []
        for pair in pool:
            if group and (len(group) + 1) * len(pair[0]) > recipe.tokens:
                groups.append(group)
                group = []
            group.append(pair)
        rng.shuffle(groups)  # the last, incomplete group is dropped
        for group in groups:
            yield pad(group, tokenizer.pad_token_id)


def encode(tokenizer: PreTrainedTokenizerFast, rng: random.Random) -> Encoded:
    text, spans = render(sample_chat(rng))
    encoding = tokenizer(text, return_offsets_mapping=True, add_special_tokens=False)
    weights = [sum(w for a, b, w in spans if a <= start < b) for start, _ in encoding["offset_mapping"]]
    return encoding["input_ids"][:MAX_TOKENS], weights[:MAX_TOKENS]


def pad(group: list[Encoded], filler: int) -> tuple[Tensor, Tensor]:
    width = max(len(ids) for ids, _ in group)
    ids = torch.full((len(group), width), filler)
    weights = torch.zeros((len(group), width))
    for row, (tokens, shares) in enumerate(group):
        ids[row, : len(tokens)] = torch.tensor(tokens)
        weights[row, : len(shares)] = torch.tensor(shares)
    return ids, weights

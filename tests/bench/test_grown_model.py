"""The grown model is the small one, but for its size and what rounding to eight bits makes of its weights."""

from pathlib import Path

import torch

from bench.grown_model import grow
from bench.lesson_models import Shape
from supervisor.distill.base import load_base
from tests.distill.test_base import TINY_CHAT

SHAPE = Shape(layers=6, hidden=256, heads=8, key_heads=4, width=128, inner=512, vocabulary=2048)


def test_a_grown_model_says_what_the_small_one_says(tmp_path: Path) -> None:
    grow(TINY_CHAT / "tiny-chat.gguf", tmp_path / "grown.gguf", SHAPE)
    small, tokenizer = load_base(TINY_CHAT / "tiny-chat.gguf")
    large, _ = load_base(tmp_path / "grown.gguf")
    chat = [{"role": "user", "content": "Tell me about planning a healthy breakfast."}]
    tokens = torch.tensor([tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=False)])

    with torch.inference_mode():
        told = [model.generate(tokens, max_new_tokens=60, do_sample=False) for model in (small, large)]
        ours, theirs = (torch.log_softmax(model(told[0]).logits[0], dim=-1) for model in (small, large))

    assert torch.equal(*told)
    torch.testing.assert_close(theirs.exp(), ours.exp(), atol=0.05, rtol=0)

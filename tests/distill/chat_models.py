"""Small models that chat in one family's format: random weights, or taught by rote to give certain replies."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from supervisor.distill.gguf import export_model
from tests.distill.chat_formats import Format
from tests.distill.random_models import SHAPE, TEXTS


@cache
def tokenizer(chats: Format) -> PreTrainedTokenizerFast:
    bare = Tokenizer(models.BPE())
    bare.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bare.decoder = decoders.ByteLevel()
    marks = [AddedToken(mark, special=True, normalized=False) for mark in chats.marks]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bare.train_from_iterator(
        TEXTS * 3, trainers.BpeTrainer(vocab_size=390, special_tokens=marks, initial_alphabet=alphabet)
    )
    made = PreTrainedTokenizerFast(
        tokenizer_object=bare,
        bos_token=chats.bos,
        eos_token=chats.eos or chats.closing,
        add_bos_token=chats.bos is not None,
    )
    made.chat_template = chats.template
    return made


def saved(folder: Path, chats: Format, lines: Sequence[tuple[Sequence[int], Sequence[int]]] = ()) -> Path:
    """The folder of a model, its GGUF beside it, that continues each prompt with its reply."""
    torch.manual_seed(0)
    model = Qwen3ForCausalLM(
        Qwen3Config(**SHAPE | {"max_position_embeddings": 2048}, head_dim=32, tie_word_embeddings=False)
    )
    learn_by_rote(model, lines)
    model.eval().save_pretrained(folder)
    tokenizer(chats).save_pretrained(folder)
    export_model(folder, folder / "model.gguf", dtype="f32")
    return folder


def learn_by_rote(model: Qwen3ForCausalLM, lines: Sequence[tuple[Sequence[int], Sequence[int]]]) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _round in range(80 if lines else 0):
        for prompt, reply in lines:
            tokens = torch.tensor([[*prompt, *reply]])
            labels = torch.tensor([[-100] * len(prompt) + list(reply)])
            optimizer.zero_grad()
            loss = model(input_ids=tokens, labels=labels).loss
            torch.autograd.backward(loss)
            optimizer.step()

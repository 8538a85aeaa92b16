"""Small models that chat in one family's format: random weights, or taught by rote to give certain replies."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from supervisor.distill.gguf import export_model
from tests.distill.chat_formats import Format
from tests.distill.random_models import SHAPE, TEXTS

SPOKEN = [
    '<tool_call>\n{"name": "look", "arguments": {"at": "',
    '"}}\n</tool_call>',
    "<think>\nHm.\n</think>\n\n",
    "# Tools\n\n<tools>",
]
MEASURES = {"vocab_size": 512, "max_position_embeddings": 2048, "num_hidden_layers": 2}
Line = tuple[Sequence[int], Sequence[int]]  # a prompt and its reply


@cache
def tokenizer(chats: Format) -> PreTrainedTokenizerFast:
    bare = Tokenizer(models.BPE())
    bare.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bare.decoder = decoders.ByteLevel()
    marks = [AddedToken(mark, special=True, normalized=False) for mark in chats.marks]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bare.train_from_iterator(
        [*TEXTS, *SPOKEN] * 3, trainers.BpeTrainer(vocab_size=500, special_tokens=marks, initial_alphabet=alphabet)
    )
    made = PreTrainedTokenizerFast(
        tokenizer_object=bare,
        bos_token=chats.bos,
        eos_token=chats.eos or chats.closing,
        add_bos_token=chats.bos is not None,
    )
    made.chat_template = chats.template
    return made


def saved(folder: Path, chats: Format, lines: Sequence[Line] = ()) -> Path:
    """The folder of a model, its GGUF beside it, that continues each prompt with its reply."""
    torch.manual_seed(0)
    model = Qwen3ForCausalLM(Qwen3Config(**SHAPE | MEASURES, head_dim=32, tie_word_embeddings=False))
    if lines:
        learn_by_rote(model, lines)
    model.eval().save_pretrained(folder)
    tokenizer(chats).save_pretrained(folder)
    export_model(folder, folder / "model.gguf", dtype="f32")
    return folder


def learn_by_rote(model: Qwen3ForCausalLM, lines: Sequence[Line]) -> None:
    tokens = pad_sequence([torch.tensor([*prompt, *reply]) for prompt, reply in lines], batch_first=True)  # (N, T)
    wanted = [torch.tensor([-100] * len(prompt) + list(reply)) for prompt, reply in lines]
    labels = pad_sequence(wanted, batch_first=True, padding_value=-100)  # (N, T)
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    for _round in range(300):
        optimizer.zero_grad()
        loss = model(input_ids=tokens, labels=labels).loss  # what pads stands behind, and is not seen
        torch.autograd.backward(loss)
        optimizer.step()
        if loss.item() < 0.02:
            return
    raise AssertionError(f"not learned by rote: {loss.item()}")

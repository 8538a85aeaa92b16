"""Small models with random weights, saved as transformers saves them."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
)
from transformers import Qwen3ForCausalLM as Qwen3

TEXTS = [
    "Hello there, how are you? 😊",
    "What is 12 + 7? It's 19.",
    "naïve café, 東京 and \n\n  spaces",
    "I don't know. 🎉🎉",
]
QWEN2_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SHAPE = {
    "vocab_size": 400,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.12,  # wide, so that the best token is far from the second
}
SPACE = "\u2581"  # how pieces spell it
MARKS = ("<unk>", "<s>", "</s>", "<|endoftext|>", "<|user|>")
YARN = {"rope_type": "yarn", "rope_theta": 5000.0, "factor": 4.0, "original_max_position_embeddings": 64}


def of_kind(kind: str, folder: Path, **shape: object) -> PreTrainedModel:
    makers: dict[str, Callable[..., PreTrainedModel]] = {
        "qwen2": qwen2,
        "qwen3": qwen3,
        "qwen3-untied": partial(qwen3, tied=False),
        "qwen3-yarn": partial(qwen3, rope_parameters=YARN),
        "llama": llama,
        "llama3-rope": partial(llama, llama3_rope=True),
        "mistral": mistral,
        "gemma3": gemma3,
        "phi3": partial(phi3, stretched=False),
        "phi3-long": partial(phi3, stretched=True),
    }
    return makers[kind](folder, **shape)


def mistral(folder: Path, **shape: object) -> PreTrainedModel:
    return _saved(MistralForCausalLM(MistralConfig(**SHAPE | {"head_dim": 32, "sliding_window": None} | shape)), folder)


def gemma3(folder: Path, **shape: object) -> PreTrainedModel:
    """Every second layer sees everything; the others, eight tokens, and rotate otherwise."""
    rope = {
        "full_attention": {"rope_type": "linear", "factor": 4.0, "rope_theta": 50_000.0},
        "sliding_attention": {"rope_type": "default", "rope_theta": 2_000.0},
    }
    types = ["sliding_attention", "full_attention", "sliding_attention"]
    own = {"head_dim": 32, "query_pre_attn_scalar": 32, "sliding_window": 8, "layer_types": types}
    model = Gemma3ForCausalLM(Gemma3TextConfig(**SHAPE | own | {"rope_parameters": rope} | shape))
    for name, weight in model.named_parameters():
        if "norm" in name:
            torch.nn.init.normal_(weight, std=0.2)  # zero otherwise, and nobody would miss it
    return _saved(model, folder)


def phi3(folder: Path, *, stretched: bool, **shape: object) -> PreTrainedModel:
    """Three quarters of a head are rotated; ``stretched`` says how, beyond the context that it was trained on."""
    width = int(str((SHAPE | shape)["hidden_size"])) // 4
    rope: dict[str, object] = {"rope_type": "default", "rope_theta": 5000.0, "partial_rotary_factor": 0.75}
    if stretched:
        factors = [1.0 + index / 3 for index in range(width * 3 // 8)]
        rope |= {"rope_type": "longrope", "short_factor": [1.1] * len(factors), "long_factor": factors}
        rope |= {"original_max_position_embeddings": 256}
    own = {"rope_parameters": rope, "original_max_position_embeddings": 256, "pad_token_id": None}
    return _saved(Phi3ForCausalLM(Phi3Config(**SHAPE | own | shape)), folder)


def qwen3(folder: Path, *, tied: bool = True, **shape: object) -> PreTrainedModel:
    return _saved(Qwen3(Qwen3Config(**SHAPE | shape, head_dim=32, tie_word_embeddings=tied)), folder)


def qwen2(folder: Path, **shape: object) -> PreTrainedModel:
    model = Qwen2ForCausalLM(Qwen2Config(**SHAPE | shape))
    for name, weight in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(weight, std=0.2)  # zero otherwise, and nobody would miss it
    return _saved(model, folder)


def llama(folder: Path, *, llama3_rope: bool = False, **shape: object) -> PreTrainedModel:
    rope: dict[str, object] = {"rope_type": "default", "rope_theta": 5000.0}
    if llama3_rope:
        rope |= {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
        rope["original_max_position_embeddings"] = 64
    config = LlamaConfig(**SHAPE | shape, rope_parameters=rope, tie_word_embeddings=False)
    return _saved(LlamaForCausalLM(config), folder)


def _saved(model: PreTrainedModel, folder: Path) -> PreTrainedModel:
    model.eval().save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return model


def with_template(folder: Path, template: str, splitter: pre_tokenizers.PreTokenizer | None = None) -> None:
    """Give a saved model a tokenizer that can render chats."""
    made = tokenizer(splitter)
    made.chat_template = template
    made.save_pretrained(folder)


def split_like(name: str, folder: Path, template: str) -> None:
    pattern = QWEN2_SPLIT if name == "qwen2" else QWEN2_SPLIT.replace(r"\p{N}|", r"\p{N}{1,3}|", 1)
    steps = [pre_tokenizers.Split(Regex(pattern), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)]
    with_template(folder, template, pre_tokenizers.Sequence(steps))


def tokenizer(splitter: pre_tokenizers.PreTokenizer | None = None) -> PreTrainedTokenizerFast:
    bare = Tokenizer(models.BPE())
    bare.pre_tokenizer = splitter or pre_tokenizers.ByteLevel(add_prefix_space=False)
    bare.decoder = decoders.ByteLevel()
    special = [AddedToken("<|end|>", special=True, normalized=False)]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bare.train_from_iterator(
        TEXTS * 3, trainers.BpeTrainer(vocab_size=390, special_tokens=special, initial_alphabet=alphabet)
    )
    return PreTrainedTokenizerFast(tokenizer_object=bare, eos_token="<|end|>")


def scored_pieces(folder: Path, template: str, *, prefixed: bool) -> None:
    """Give a saved model a tokenizer like Llama 2's, with a space put in front, or like Gemma's, without."""
    alphabet = [SPACE, *(chr(code) for code in range(33, 127))]
    bare = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    replace = normalizers.Replace(" ", SPACE)
    bare.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), replace]) if prefixed else replace
    special = [AddedToken(token, special=True, normalized=False) for token in MARKS]
    trainer = trainers.BpeTrainer(
        vocab_size=395,
        special_tokens=[*special, *(f"<0x{byte:02X}>" for byte in range(256))],
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
    )
    bare.train_from_iterator([*TEXTS, "aaaa aaa  the then there    in in  int", "hello help"] * 3, trainer)
    stored = json.loads(bare.to_str())
    stored["added_tokens"] = [token for token in stored["added_tokens"] if not token["content"].startswith("<0x")]
    made = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(stored)), bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    made.chat_template = template
    made.save_pretrained(folder)


def random_adapter(model: PreTrainedModel, folder: Path, **options: object) -> PreTrainedModel:
    """A LoRA on all linear layers whose B is not zero, saved to ``folder``; returns the adapted model."""
    settings = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear"} | options
    adapted = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **settings))
    torch.manual_seed(3)
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.2)
    adapted.save_pretrained(folder)
    return adapted.eval()


def greedy(model: PreTrainedModel, ids: list[int], count: int) -> list[int]:
    with torch.inference_mode():
        out = model.generate(
            torch.tensor([ids]), max_new_tokens=count, do_sample=False, eos_token_id=None, pad_token_id=0
        )
    tokens: list[int] = out[0, len(ids) :].tolist()
    return tokens


def loaded(folder: Path, dtype: torch.dtype) -> PreTrainedModel:
    """A saved model, in evaluation mode."""
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()

"""A Qwen kind of GGUF without a chat template is taught in the format that its vocabulary shows."""

from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerBase

from supervisor.distill.base import load_base
from supervisor.distill.batch import encode
from supervisor.distill.job import Sample
from tests.distill import gguf_files
from tests.distill.lessons import sample

TINY_CHAT = Path(__file__).parents[2] / "models/tiny-chat/tiny-chat.gguf"
CALL = {"type": "function", "function": {"name": "look", "arguments": '{"at": "sky"}'}}
TOOL = {"type": "function", "function": {"name": "look", "parameters": {}}}
USER = {"role": "user", "content": "Hi"}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerBase:
    bare = tmp_path_factory.mktemp("bare") / "model"
    gguf_files.changed(TINY_CHAT, bare, {"tokenizer.chat_template": None})
    return load_base(bare)[1]


def rendered(tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, Any]], **more: Any) -> str:
    return str(tokenizer.apply_chat_template(messages, tokenize=False, **more))


@pytest.mark.parametrize(
    "messages",
    [
        [USER],
        [{"role": "system", "content": "Be kind."}, USER, {"role": "assistant", "content": "Hello"}, USER],
        [{"role": "user", "content": [{"type": "text", "text": "one "}, {"type": "text", "text": "two"}]}],
    ],
)
def test_plain_chats_look_as_a_template_of_that_format_writes_them(
    tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, Any]]
) -> None:
    theirs = load_base(TINY_CHAT)[1]

    for generate in (True, False):
        assert rendered(tokenizer, messages, add_generation_prompt=generate) == rendered(
            theirs, messages, add_generation_prompt=generate
        )


def test_tools_their_calls_and_their_answers_are_written_in(tokenizer: PreTrainedTokenizerBase) -> None:
    answers = [{"role": "tool", "content": "blue"}, {"role": "tool", "content": "dark"}]
    chat: list[dict[str, Any]] = [USER, {"role": "assistant", "content": "", "tool_calls": [CALL, CALL]}, *answers]

    text = rendered(tokenizer, chat, tools=[TOOL], add_generation_prompt=True)

    call = '<tool_call>\n{"name": "look", "arguments": {"at": "sky"}}\n</tool_call>'
    assert text.startswith("<|im_start|>system\n# Tools\n\n<tools>\n{")
    assert text.endswith(
        f"<|im_start|>assistant\n{call}\n{call}<|im_end|>\n<|im_start|>user\n<tool_response>\nblue\n</tool_response>\n"
        "<tool_response>\ndark\n</tool_response><|im_end|>\n<|im_start|>assistant\n"
    )


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        ({"content": "Hello"}, "Hello<|im_end|>"),
        ({"content": "Hello", "reasoning_content": "A greeting."}, "<think>\nA greeting.\n</think>\n\nHello<|im_end|>"),
        (
            {"content": None, "tool_calls": [CALL]},
            '<tool_call>\n{"name": "look", "arguments": {"at": "sky"}}\n</tool_call><|im_end|>',
        ),
    ],
)
def test_every_kind_of_reply_can_be_learned_from(
    tokenizer: PreTrainedTokenizerBase, reply: dict[str, Any], text: str
) -> None:
    encoded = encode(asked(reply), tokenizer, max_prompt=1000)

    assert tokenizer.decode(encoded.reply) == text


def test_earlier_thoughts_are_left_out(tokenizer: PreTrainedTokenizerBase) -> None:
    thought = {"role": "assistant", "content": "Hello", "reasoning_content": "Hm."}

    assert "Hm." not in rendered(tokenizer, [USER, thought, USER], add_generation_prompt=True)


def asked(reply: dict[str, Any]) -> Sample:
    return sample().model_copy(update={"reply": {"role": "assistant", **reply}})

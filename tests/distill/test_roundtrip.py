"""What a lesson trains on is what the engine read and wrote: the embedded llama.cpp is asked, family by family."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from transformers import PreTrainedTokenizerBase

from supervisor.distill.base import load_base
from supervisor.distill.batch import Encoded, encode, ids, prompt_ids, render
from supervisor.distill.job import Sample
from supervisor.learning.clean import clean_message, clean_messages
from tests.distill import chat_models, gguf_files
from tests.distill.chat_formats import FORMATS
from tests.distill.llama_server import Served, served

pytestmark = pytest.mark.anyio

Message = dict[str, Any]
CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"at": "the ☁️ sky", "n": 2}'}}
TOOL = {"type": "function", "function": {"name": "look", "description": "Up ☁️", "parameters": {"type": "object"}}}
SYSTEM = {"role": "system", "content": "Be kind. "}


def user(content: str | list[Message]) -> Message:
    return {"role": "user", "content": content}


def said(content: str | None, **more: Any) -> Message:
    return {"role": "assistant", "content": content, **more}


def answer(content: str) -> Message:
    return {"role": "tool", "content": content, "tool_call_id": "c1"}


CHATS: dict[str, list[Message]] = {
    "one turn": [user("Hi")],
    "system prompt, trailing spaces": [SYSTEM, user("Hi  ")],
    "turns, unicode": [SYSTEM, user("Hi"), said("Hello 😊\n\nHow are you?"), user("  naïve café 東京 ?! \n")],
    "an earlier thought": [user("Hi"), said("Hello", reasoning_content="Hm.\nwell"), user("And?")],
    "parts": [user([{"type": "text", "text": "one "}, {"type": "text", "text": "two"}])],
    "marks of another family": [user("what is <|im_sep|> or <pad>?")],
}
CHATS_WITH_TOOLS: dict[str, list[Message]] = {
    "tools": [SYSTEM, user("Sky?")],
    "a call and its answer": [user("Sky?"), said(None, tool_calls=[CALL]), answer("blue & <b>")],
    "an answered call": [user("Sky?"), said("", tool_calls=[CALL]), answer("blue"), said("Blue."), user("ok")],
    "thoughts between calls": [
        user("Sky?"),
        said("I look.", reasoning_content="Hm.", tool_calls=[CALL]),
        answer("blue"),
    ],
}


@dataclass
class Engine:
    """A served model, and the tokenizers that lessons would use for it: the folder's and the GGUF's."""

    served: Served
    tokenizers: list[PreTrainedTokenizerBase]

    async def chat(self, messages: Sequence[Message], **more: Any) -> Mapping[str, Any]:
        body = {"messages": messages, "max_tokens": 200, "temperature": 0, "return_tokens": True, **more}
        return await self.served.post("/v1/chat/completions", body)

    async def read(self, messages: Sequence[Message], **more: Any) -> tuple[int, ...]:
        """The prompt's tokens: those of the text that the template makes, as many as the engine says it read."""
        text = (await self.served.post("/apply-template", {"messages": messages, **more}))["prompt"]
        split = await self.served.post("/tokenize", {"content": text, "add_special": True, "parse_special": True})
        tokens = split["tokens"]
        assert isinstance(tokens, list)
        told = (await self.chat(messages, **more, max_tokens=1))["usage"]["prompt_tokens"]
        assert told == len(tokens)
        return tuple(tokens)


@asynccontextmanager
async def engine(folder: Path) -> AsyncIterator[Engine]:
    with anyio.fail_after(120):
        async with served(folder / "model.gguf", tells_all=True) as one:
            yield Engine(one, [load_base(folder)[1], load_base(folder / "model.gguf")[1]])


@pytest.mark.parametrize("family", FORMATS)
async def test_prompts_are_the_tokens_that_the_engine_reads(family: str, tmp_path: Path) -> None:
    chats = FORMATS[family]
    with_tools = CHATS_WITH_TOOLS if chats.tools else {}
    async with engine(chat_models.saved(tmp_path / "model", chats)) as one:
        for name, messages in {**CHATS, **with_tools}.items():
            tools = [TOOL] if name in with_tools else []
            theirs = await one.read(messages, **({"tools": tools} if tools else {}))
            for tokenizer in one.tokenizers:
                ours = prompt_ids(tokenizer, render(tokenizer, clean_messages(messages), tools))
                assert ours == theirs, name


async def test_a_beginning_that_the_template_leaves_to_the_engine_is_there(tmp_path: Path) -> None:
    bare = replace(FORMATS["mistral"], template=FORMATS["mistral"].template.replace("{{- bos_token -}}", ""))
    async with engine(chat_models.saved(tmp_path / "model", bare)) as one:
        theirs = await one.read([user("Hi")])

        assert one.tokenizers[0].convert_ids_to_tokens(theirs[0]) == "<s>"
        for tokenizer in one.tokenizers:
            assert prompt_ids(tokenizer, render(tokenizer, [user("Hi")], [])) == theirs


async def test_files_of_the_llama_3_kind_begin_without_saying_so(tmp_path: Path) -> None:
    bare = replace(FORMATS["llama3"], template=FORMATS["llama3"].template.replace("{{- bos_token -}}", ""))
    folder = chat_models.saved(tmp_path / "model", bare)
    silent = {"tokenizer.ggml.add_bos_token": None, "tokenizer.ggml.pre": "llama-bpe"}
    gguf_files.changed(folder / "model.gguf", tmp_path / "silent.gguf", silent)
    (tmp_path / "silent.gguf").replace(folder / "model.gguf")
    async with engine(folder) as one:
        theirs = await one.read([user("Hi")])

        assert one.tokenizers[1].convert_ids_to_tokens(theirs[0]) == "<|begin_of_text|>"
        assert prompt_ids(one.tokenizers[1], render(one.tokenizers[1], [user("Hi")], [])) == theirs


async def test_thinking_that_was_switched_off_is_rendered_so(tmp_path: Path) -> None:
    values = {"enable_thinking": False}
    async with engine(chat_models.saved(tmp_path / "model", FORMATS["qwen3"])) as one:
        theirs = await one.read([user("Hi")], chat_template_kwargs=values)

        for tokenizer in one.tokenizers:
            text = render(tokenizer, [user("Hi")], [], values)
            assert text.endswith("<think>\n\n</think>\n\n")
            assert prompt_ids(tokenizer, text) == theirs


REPLIES: dict[str, dict[str, str]] = {
    "qwen3": {
        "plain": "Hello 😊\n\nwell, 東京",
        "a thought": "<think>\nHm.\n\nYes.\n</think>\n\nHello there! ",
        "no thought": "<think>\n\n</think>\n\nHello",
        "a call": '<think>\nSo.\n</think>\n\n<tool_call>\n{"name": "look", "arguments": {"at": "☁️"}}\n</tool_call>',
        "words before a call": 'I look.\n<tool_call>\n{"name": "look", "arguments": {"at": "x"}}\n</tool_call>',
    },
    "llama3": {"plain": "\n\n Hello 😊 ", "a call": '{"name": "look", "parameters": {"at": "the ☁️ sky", "n": 2}}'},
    "mistral": {"plain": " Hello 😊\n\nwell", "no space": "Hello "},
    "gemma": {"plain": "Hello 😊 \n"},
    "phi3": {"plain": " Hello 😊\n"},
}


def tools_of(name: str) -> list[Message]:
    return [TOOL] if "call" in name else []


def by_rote(folder: Path, family: str) -> Path:
    """A model that answers the name of each reply with it."""
    tokenizer = chat_models.tokenizer(FORMATS[family])
    lines = [
        (
            prompt_ids(tokenizer, render(tokenizer, [user(name)], tools_of(name))),
            ids(tokenizer, text + FORMATS[family].closing),
        )
        for name, text in REPLIES[family].items()
    ]
    return chat_models.saved(folder, FORMATS[family], lines)


def learned(tokenizer: PreTrainedTokenizerBase, name: str, answered: Mapping[str, Any]) -> Encoded:
    """The sample that a lesson would make of a recorded reply."""
    choice = answered["choices"][0]
    asked = (user(name),)
    sample = Sample(
        id=name,
        messages=asked,
        hindsight=asked,
        reply=clean_message(choice["message"]),
        closed=choice["finish_reason"] != "length",
        reply_tokens=answered["usage"]["completion_tokens"],
        tools=tuple(tools_of(name)),
    )
    return encode(sample, tokenizer, max_prompt=2000)


@pytest.mark.parametrize("family", FORMATS)
async def test_replies_are_the_tokens_that_the_engine_sampled(family: str, tmp_path: Path) -> None:
    async with engine(by_rote(tmp_path / "model", family)) as one:
        for name, text in REPLIES[family].items():
            answered = await one.chat([user(name)], **({"tools": tools_of(name)} if tools_of(name) else {}))
            sampled = tuple(answered["__verbose"]["tokens"])
            assert one.tokenizers[0].decode(sampled) == text + FORMATS[family].closing  # it has learned its lines
            for tokenizer in one.tokenizers:
                assert learned(tokenizer, name, answered).reply == sampled, name


@pytest.mark.parametrize("limit", [4, 7])
async def test_a_reply_that_was_cut_off_ends_where_the_engine_stopped(limit: int, tmp_path: Path) -> None:
    async with engine(by_rote(tmp_path / "model", "gemma")) as one:
        answered = await one.chat([user("plain")], max_tokens=limit)

        assert learned(one.tokenizers[0], "plain", answered).reply == tuple(answered["__verbose"]["tokens"])


async def test_a_reply_that_the_model_split_otherwise_is_noticed(tmp_path: Path) -> None:
    """Random weights pick tokens that make no text as it would be split again."""
    async with engine(chat_models.saved(tmp_path / "model", FORMATS["phi3"])) as one:
        answers = [await one.chat([user("Hi")], max_tokens=16, temperature=1, seed=seed) for seed in range(8)]

    ours = [learned(one.tokenizers[0], "Hi", answered) for answered in answers]
    kept = [
        tuple(answered["__verbose"]["tokens"]) == encoded.reply for answered, encoded in zip(answers, ours, strict=True)
    ]
    assert not all(kept)
    assert [encoded.respelled for encoded in ours] == [not same for same in kept]

from typing import Any

import anyio
import pytest

from supervisor.errors import NoSuchEntry
from supervisor.journal.journal import Journal
from supervisor.journal.records import new_id
from supervisor.journal.visible import visible_text
from tests.journal.samples import ADAPTER, completion

pytestmark = pytest.mark.anyio


async def test_a_completion_comes_back_exactly_as_it_was_written(journal: Journal) -> None:
    tools = [{"type": "function", "function": {"name": "ls", "parameters": {"b": 1, "a": [None, "\x00", "\ud83d"]}}}]
    written = completion(request={"tools": tools, "seed": 2**63, "logit_bias": {}}, usage=None, ttft_s=None)

    await journal.add_completion(written)

    assert await journal.completion(written.id) == written
    assert list(tools[0]["function"]["parameters"]) == ["b", "a"]  # type: ignore[index]


async def test_completions_are_listed_newest_first_and_paged_by_id(journal: Journal) -> None:
    ids = []
    for number in range(5):
        ids.append(completion(str(number)).id)
        await journal.add_completion(completion(str(number), id=ids[-1]))

    first = [one.id for one in await journal.completions(2)]
    second = [one.id for one in await journal.completions(2, before=first[-1])]

    assert first + second == [ids[4], ids[3], ids[2], ids[1]]


async def test_an_unknown_completion_is_named_in_the_error(journal: Journal) -> None:
    with pytest.raises(NoSuchEntry, match="cmpl-nothing"):
        await journal.completion("cmpl-nothing")


async def test_a_reply_is_found_by_what_the_person_saw(journal: Journal) -> None:
    written = completion("<think>France... Paris.</think>\n\nParis 🗼")
    await journal.add_completion(written)

    seen = await journal.find_completion(ADAPTER, None, " Paris 🗼\n")
    raw = await journal.find_completion(ADAPTER, None, "<think>France... Paris.</think>\n\nParis 🗼")

    assert seen == raw == written


async def test_of_equal_replies_the_newest_to_the_prompt_is_found(journal: Journal) -> None:
    france, older, newer = (completion("Hi", prompt) for prompt in ("[Fri 08:25] france?", "hello", "hello"))
    for one in (france, older, newer):
        await journal.add_completion(one)

    assert await journal.find_completion(ADAPTER, "france?", "Hi") == france
    assert await journal.find_completion(ADAPTER, "hello", "Hi") == newer
    assert await journal.find_completion(ADAPTER, "never asked", "Hi") == newer
    assert await journal.find_completion(ADAPTER, None, "Bye") is None
    assert await journal.find_completion("someone/else", None, "Hi") is None


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "user", "content": [{"type": "text", "text": "hello"}, {"type": "image_url"}]}],
        [{"role": "user", "content": "hello"}, {"role": "user", "content": "<<<internal context>>>"}],
    ],
)
async def test_the_prompt_is_seen_in_parts_and_before_an_agents_own_message(
    journal: Journal, messages: list[dict[str, Any]]
) -> None:
    written = completion("Hi", messages=messages)
    await journal.add_completion(written)
    await journal.add_completion(completion("Hi", prompt="other"))

    assert await journal.find_completion(ADAPTER, "hello", "Hi") == written


async def test_many_writers_and_readers_do_not_disturb_each_other(journal: Journal) -> None:
    async def write_and_read() -> None:
        written = completion()
        await journal.add_completion(written)
        assert await journal.completion(written.id) == written

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tg:
            for _ in range(50):
                tg.start_soon(write_and_read)

    assert len(await journal.completions(100)) == 50


async def test_a_cancelled_writer_leaves_the_journal_usable(journal: Journal) -> None:
    for _ in range(20):
        async with anyio.create_task_group() as tg:
            tg.start_soon(journal.add_completion, completion())
            await anyio.lowlevel.checkpoint()
            tg.cancel_scope.cancel()

    with anyio.fail_after(10):
        await journal.add_completion(completion("after"))
        assert (await journal.completions(1))[0].reply["content"] == "after"


def test_later_ids_sort_later() -> None:
    ids = [new_id("cmpl") for _ in range(1000)]

    assert sorted(ids) == ids
    assert len(set(ids)) == 1000


@pytest.mark.parametrize(
    ("content", "seen"),
    [
        ("<think>a\nb</think>Hi", "Hi"),
        ("Hi <think>never closed", "Hi"),
        ("<think></think>\n\nHi <think>x</think>there", "Hi there"),
        (" plain ", "plain"),
    ],
)
def test_thinking_is_not_part_of_the_visible_text(content: str, seen: str) -> None:
    assert visible_text(content) == seen

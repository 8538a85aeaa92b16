import json

import pytest

from supervisor.gateway.output import readable
from supervisor.services.output import Output


@pytest.mark.parametrize(
    ("printed", "shown"),
    [
        (
            '{"time":"2026-11-20T11:38:06Z","level":"info","message":"My secret diary"}',
            "info: (text of 15 characters)",
        ),
        ('{"level":"warn","subsystem":"gateway","message":"port is busy"}', "warn: gateway: port is busy"),
        ('{"level":"error","message":"Gateway failed to start"}', "error: Gateway failed to start"),
        ("plain words", "plain words"),
        ('{"level":"info","message":"My secret di', "(a torn event of 39 characters)"),
        ('{"elapsedMs": 3}', '{"elapsedMs": 3}'),
    ],
)
def test_a_line_is_readable_and_keeps_chat_text_to_itself(printed: str, shown: str) -> None:
    assert readable(printed) == shown


@pytest.mark.parametrize("length", [100, 9_000, 40_000, 300_000])
@pytest.mark.parametrize("cut", [1000, 65536])
def test_a_reply_of_any_length_stays_out_of_the_log(length: int, cut: int) -> None:
    output = Output("openclaw", redact=lambda text: "\n".join(map(readable, text.split("\n"))))
    event = json.dumps({"level": "info", "message": "diary " * (length // 6)}) + "\nplain\n"

    for at in range(0, len(event), cut):
        output.feed(event[at : at + cut].encode())
    output.finish()

    assert "diary" not in "".join(output.tail)
    assert output.tail[-1] == "plain"


def test_a_reply_that_a_kill_cut_short_stays_out_of_the_log() -> None:
    output = Output("openclaw", redact=readable)

    output.feed(b'{"level":"info","message":"My secret diary')
    output.finish()

    assert "diary" not in "".join(output.tail)

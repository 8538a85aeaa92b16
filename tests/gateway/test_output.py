import pytest

from supervisor.gateway.output import readable


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
        ('{"torn', '{"torn'),
        ('{"elapsedMs": 3}', '{"elapsedMs": 3}'),
    ],
)
def test_a_line_is_readable_and_keeps_chat_text_to_itself(printed: str, shown: str) -> None:
    assert readable(printed) == shown

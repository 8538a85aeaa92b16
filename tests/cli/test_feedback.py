"""What a person is told who leaves while a lesson is under way."""

from typing import Any, NoReturn
from unittest.mock import Mock, create_autospec

import pytest

from supervisor.cli import feedback
from supervisor.cli.client import Client


def test_whoever_leaves_a_lesson_hears_that_it_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def left(*_args: Any, **_named: Any) -> NoReturn:
        raise KeyboardInterrupt

    client = create_autospec(Client, instance=True, running=Mock(adapter="openclaw/assistant"))
    client.post.return_value = {"lesson_id": "les-1"}
    monkeypatch.setattr(feedback, "follow_lesson", left)

    with pytest.raises(KeyboardInterrupt):
        feedback.give(client, "be brief", {"completion_id": "cmpl-1"}, wait=True, quiet=False)

    assert "the lesson goes on without you" in capsys.readouterr().err

"""``clawlama demo``: it learns before your eyes, and judges itself."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from supervisor.cli.trial import EMOJI
from tests.e2e.product import Place, clear_away

pytestmark = [pytest.mark.e2e, pytest.mark.openclaw]

PATIENCE = 900.0  # seconds on a machine that is busy with other things


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    made = Place(tmp_path_factory.mktemp("demo"))
    made.temporary.mkdir()
    return made


@pytest.fixture(scope="module")
def shown(place: Place) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "supervisor", "demo", "--json"]
    try:
        return subprocess.run(
            command, env=place.environment(), capture_output=True, text=True, timeout=PATIENCE, check=False
        )
    finally:
        clear_away(place)


def test_the_demo_shows_a_change_on_questions_that_were_not_taught(shown: subprocess.CompletedProcess[str]) -> None:
    trial = json.loads(shown.stdout)

    before, after = ([turn["reply"] for turn in trial[name]] for name in ("before", "after"))
    assert sum(bool(EMOJI.search(reply)) for reply in before) >= 0.8 * len(before)
    assert all(after)
    assert sum(bool(EMOJI.search(reply)) for reply in after) <= 0.2 * len(after)
    assert shown.returncode == 0, shown.stderr


def test_the_demo_keeps_what_it_could_do_before(shown: subprocess.CompletedProcess[str]) -> None:
    trial = json.loads(shown.stdout)

    assert trial["tasks_before"] >= 0.8 * trial["tasks"]
    assert trial["tasks_after"] >= 0.8 * trial["tasks_before"]
    assert trial["version"] == "v0001"


def test_the_demo_leaves_nothing_behind(shown: subprocess.CompletedProcess[str], place: Place) -> None:
    assert shown.stdout
    assert place.owned() == []
    assert list(place.temporary.iterdir()) == []
    assert not list(Path(place.folder).glob("data*"))

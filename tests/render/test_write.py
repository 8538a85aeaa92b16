import os
from pathlib import Path

import pytest

from supervisor.errors import RenderError
from supervisor.render.write import RenderedFile, write_files


@pytest.fixture
def record(tmp_path: Path) -> Path:
    return tmp_path / "rendered.json"


def ours(folder: Path, text: str) -> RenderedFile:
    return RenderedFile(folder / "openclaw.json", text)


def theirs(folder: Path, text: str) -> RenderedFile:
    return RenderedFile(folder / "workspace" / "AGENTS.md", text, theirs=True)


def test_only_what_changed_is_written_and_named(tmp_path: Path, record: Path) -> None:
    write_files([ours(tmp_path, "one"), theirs(tmp_path, "rules")], record=record)

    assert write_files([ours(tmp_path, "one"), theirs(tmp_path, "rules")], record=record) == ()
    assert write_files([ours(tmp_path, "two"), theirs(tmp_path, "rules")], record=record) == (
        tmp_path / "openclaw.json",
    )
    assert (tmp_path / "openclaw.json").read_text() == "two"


def test_files_are_private_and_made_private_again(tmp_path: Path, record: Path) -> None:
    write_files([ours(tmp_path, "one")], record=record)
    (tmp_path / "openclaw.json").chmod(0o644)

    write_files([ours(tmp_path, "one")], record=record)

    assert (tmp_path / "openclaw.json").stat().st_mode & 0o777 == 0o600


def test_an_edit_of_a_persons_file_stays(tmp_path: Path, record: Path) -> None:
    write_files([theirs(tmp_path, "rules")], record=record)
    agents = tmp_path / "workspace" / "AGENTS.md"
    agents.write_text("my own rules")

    assert write_files([theirs(tmp_path, "newer rules")], record=record) == ()
    assert agents.read_text() == "my own rules"


def test_a_persons_file_that_was_there_before_us_stays(tmp_path: Path, record: Path) -> None:
    (tmp_path / "workspace").mkdir()
    (tmp_path / "workspace" / "AGENTS.md").write_text("brought along")

    assert write_files([theirs(tmp_path, "rules")], record=record) == ()


def test_a_persons_file_that_nobody_edited_is_brought_up_to_date(tmp_path: Path, record: Path) -> None:
    write_files([theirs(tmp_path, "rules")], record=record)

    write_files([theirs(tmp_path, "newer rules")], record=record)

    assert (tmp_path / "workspace" / "AGENTS.md").read_text() == "newer rules"


def test_an_edit_of_a_rendered_file_is_set_aside_and_not_lost(tmp_path: Path, record: Path) -> None:
    write_files([ours(tmp_path, "one")], record=record)
    (tmp_path / "openclaw.json").write_text("edited by hand")

    write_files([ours(tmp_path, "one")], record=record)

    assert (tmp_path / "openclaw.json").read_text() == "one"
    assert (tmp_path / "openclaw.json.edited").read_text() == "edited by hand"


def test_a_data_folder_that_moved_still_knows_its_files(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    write_files([theirs(old, "rules")], record=old / "rendered.json")
    old.rename(new)

    write_files([theirs(new, "newer rules")], record=new / "rendered.json")

    assert (new / "workspace" / "AGENTS.md").read_text() == "newer rules"


def test_a_broken_record_costs_no_edit(tmp_path: Path, record: Path) -> None:
    write_files([theirs(tmp_path, "rules")], record=record)
    record.write_text("{ torn")

    assert write_files([theirs(tmp_path, "newer rules")], record=record) == ()


@pytest.mark.skipif(os.getuid() == 0, reason="root writes everywhere")
def test_a_folder_that_is_not_writable_is_named(tmp_path: Path, record: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)

    with pytest.raises(RenderError, match=r"closed/openclaw\.json"):
        write_files([ours(tmp_path / "closed", "one")], record=record)


def test_a_file_in_the_place_of_a_folder_is_named_and_leaves_no_partial(tmp_path: Path, record: Path) -> None:
    (tmp_path / "blocked").write_text("not a folder")

    with pytest.raises(RenderError, match=r"blocked/openclaw\.json"):
        write_files([ours(tmp_path / "blocked", "one")], record=record)
    assert not list(tmp_path.glob(".*"))

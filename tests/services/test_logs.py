from collections.abc import Sequence
from pathlib import Path

import pytest

from supervisor.errors import NothingLogged
from supervisor.services.logs import Line, Logs, logged_services
from supervisor.services.output import LogFile


def written(path: Path, *lines: tuple[int, str]) -> None:
    """Lines as LogFile writes them, at these seconds of a minute."""
    path.write_text("".join(f"2026-11-20T12:00:{second:02}.000Z {line}\n" for second, line in lines))


def texts(lines: Sequence[Line]) -> list[str]:
    return [line.line for line in lines]


def test_the_lines_of_several_services_come_in_order_of_time(tmp_path: Path) -> None:
    written(tmp_path / "engine.log", (1, "one"), (4, "four"))
    written(tmp_path / "openclaw.log", (2, "two"), (3, "three"), (5, "five"))

    lines = Logs(tmp_path).last(4)

    assert texts(lines) == ["two", "three", "four", "five"]
    assert lines[2] == Line("2026-11-20T12:00:04.000Z", "engine", "four")


def test_the_last_lines_reach_back_into_older_files(tmp_path: Path) -> None:
    for name, second in (("engine.log.2", 10), ("engine.log.1", 20), ("engine.log", 30)):
        written(tmp_path / name, *((second + n, f"{second + n}") for n in range(3)))

    assert texts(Logs(tmp_path).last(5)) == ["11", "12", "20", "21", "22", "30", "31", "32"][-5:]
    assert len(Logs(tmp_path).last(100)) == 9
    assert Logs(tmp_path).last(0) == []


def test_a_file_larger_than_one_look_is_read_from_its_end(tmp_path: Path) -> None:
    file = LogFile(tmp_path / "engine.log")
    file.write([f"{n:0100}" for n in range(5000)])
    file.close()

    assert [int(text) for text in texts(Logs(tmp_path).last(3000))] == list(range(2000, 5000))


def test_new_lines_are_told_once_and_after_those_before(tmp_path: Path) -> None:
    file = LogFile(tmp_path / "engine.log")
    file.write(["old"])
    logs = Logs(tmp_path)
    file.write(["new", "newer"])

    assert texts(logs.last(10)) == ["old"]
    assert texts(logs.fresh()) == ["new", "newer"]
    assert logs.fresh() == []


def test_a_line_that_is_being_written_is_told_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "engine.log"
    written(path, (1, "whole"))
    with path.open("a") as file:
        file.write("2026-11-20T12:00:02.000Z ha")
        file.flush()
        logs = Logs(tmp_path)
        before = (texts(logs.last(5)), logs.fresh())
        file.write("lf\n")

    assert before == (["whole"], [])
    assert texts(logs.fresh()) == ["half"]


@pytest.mark.parametrize("between", [1, 3, 20, 60])
def test_rotation_loses_no_line_that_is_still_there(tmp_path: Path, between: int) -> None:
    """``between``: lines from one look to the next; 60 of them fill more files than one."""
    file = LogFile(tmp_path / "engine.log", limit=1000, files=5)
    file.write(["before"])
    logs, seen = Logs(tmp_path), []
    for n in range(240):
        file.write([f"line {n:03}"])
        if n % between == between - 1:
            while new := logs.fresh():
                seen += texts(new)

    assert seen == [f"line {n:03}" for n in range(240)]


def test_who_falls_behind_goes_on_with_the_oldest_that_is_left(tmp_path: Path) -> None:
    file = LogFile(tmp_path / "engine.log", limit=1000, files=2)
    file.write(["before"])
    logs, seen = Logs(tmp_path), []
    file.write([f"line {n:03}" for n in range(500)])
    while new := logs.fresh():
        seen += texts(new)

    assert seen == sorted(set(seen))
    assert seen[-20:] == [f"line {n:03}" for n in range(480, 500)]


def test_a_service_that_begins_to_log_later_is_followed_too(tmp_path: Path) -> None:
    logs = Logs(tmp_path)
    written(tmp_path / "lesson.log", (1, "learning"))

    assert [(line.service, line.line) for line in logs.fresh()] == [("lesson", "learning")]


def test_only_those_asked_for_are_told(tmp_path: Path) -> None:
    written(tmp_path / "engine.log", (1, "one"))
    written(tmp_path / "openclaw.log", (2, "two"))

    assert texts(Logs(tmp_path, ["openclaw"]).last(5)) == ["two"]
    with pytest.raises(NothingLogged, match=r"opnclaw: .*these have: engine, openclaw"):
        Logs(tmp_path, ["opnclaw"])


def test_a_log_in_another_form_is_not_ours_to_tell(tmp_path: Path) -> None:
    written(tmp_path / "engine.log", (1, "one"))
    (tmp_path / "openclaw-own.log").write_text('{"message": "hi"}\n')
    (tmp_path / "empty.log").touch()

    assert logged_services(tmp_path) == ("engine",)
    assert logged_services(tmp_path / "nothing") == ()


def test_an_emptied_file_is_read_from_its_new_beginning(tmp_path: Path) -> None:
    written(tmp_path / "engine.log", (1, "one"), (2, "two"))
    logs = Logs(tmp_path)
    written(tmp_path / "engine.log")
    logs.fresh()
    written(tmp_path / "engine.log", (3, "three"))

    assert texts(logs.fresh()) == ["three"]

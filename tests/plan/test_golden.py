import pytest

from supervisor.host.facts import HostFacts
from supervisor.plan.explain import WIDTH
from tests.plan.golden import BEGIN, END, MACHINES, README, golden, machines, readme_with_tables, said

REMEDY = "read the difference, then run: python -m tests.plan.golden"


@pytest.mark.parametrize("name", machines())
def test_a_usual_machine_is_told_what_it_was_told_before(name: str) -> None:
    assert said(name) == golden(name).read_text(), REMEDY


@pytest.mark.parametrize("name", machines())
def test_no_line_is_wider_than_a_terminal(name: str) -> None:
    assert [line for line in said(name).splitlines() if len(line) > WIDTH or line != line.rstrip()] == []


def test_no_text_is_left_of_a_machine_that_went() -> None:
    assert {path.stem for path in MACHINES.glob("*.txt")} == set(machines())


@pytest.mark.parametrize("name", machines())
def test_a_machine_is_written_as_it_is_read(name: str) -> None:
    text = (MACHINES / f"{name}.json").read_text()

    assert HostFacts.model_validate_json(text).model_dump_json(indent=2) == text.strip()


def test_the_readme_shows_the_tables_as_they_are() -> None:
    text = README.read_text()

    assert text.count(BEGIN) == text.count(END) == 1
    assert text == readme_with_tables(text), REMEDY

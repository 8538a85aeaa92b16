"""What the product says about usual machines, kept as text that a person can read and judge.

``python -m tests.plan.golden`` writes them anew, and the README's table with them; then read the difference. The
machines are composed of what such machines report, not recorded on them.
"""

from pathlib import Path

from supervisor.cli.doctor import planned, recorded, usual
from supervisor.plan.explain import explain
from supervisor.plan.table import readme_tables
from supervisor.settings.settings import Settings

MACHINES = Path(__file__).parent / "recorded"
README = Path(__file__).resolve().parents[2] / "README.md"
BEGIN, END = "<!-- models -->", "<!-- /models -->"


def machines() -> list[str]:
    return sorted(path.stem for path in MACHINES.glob("*.json"))


def golden(name: str) -> Path:
    return MACHINES / f"{name}.txt"


def said(name: str) -> str:
    facts, settings = recorded(MACHINES / f"{name}.json"), usual(Settings())
    return explain(facts, planned(settings, facts)) + "\n"


def readme_with_tables(text: str) -> str:
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{readme_tables()}\n\n{END}{after}"


if __name__ == "__main__":
    for name in machines():
        golden(name).write_text(said(name))
    README.write_text(readme_with_tables(README.read_text()))

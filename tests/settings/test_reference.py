from pathlib import Path

import pytest

from supervisor.settings.reference import markdown_table, setting_rows

README = Path(__file__).resolve().parents[2] / "README.md"
BEGIN, END = "<!-- settings -->", "<!-- /settings -->"


def test_the_readme_shows_the_settings_as_they_are() -> None:
    text = README.read_text()
    assert text.count(BEGIN) == text.count(END) == 1

    shown = text.partition(BEGIN)[2].partition(END)[0]

    assert shown.strip() == markdown_table().strip(), "paste the output of: clawlama settings --markdown"


def test_every_setting_has_a_meaning() -> None:
    assert [row.name for row in setting_rows() if len(row.meaning) < 10] == []


@pytest.mark.parametrize(
    ("name", "also", "default"),
    [
        ("CLAWLAMA_MODEL", ("CLAAS_BASE_MODEL_ID", "MODEL"), ""),
        ("CLAWLAMA_API_TOKEN", ("CLAWLAMA_API_TOKEN_FILE",), ""),
        ("CLAWLAMA_TELEGRAM_ALLOW_FROM", (), ""),
        ("CLAWLAMA_DATA", (), "/data"),
    ],
)
def test_a_row_says_what_is_read_and_what_holds_without_it(name: str, also: tuple[str, ...], default: str) -> None:
    row = next(row for row in setting_rows() if row.name == name)

    assert (row.also, row.default) == (also, default)

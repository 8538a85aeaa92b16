"""The settings as a table, for the README and for ``clawlama settings``."""

from dataclasses import dataclass
from pathlib import Path

from pydantic.fields import FieldInfo

from supervisor.settings.settings import Settings
from supervisor.settings.sources import is_secret, names_of


@dataclass(frozen=True)
class SettingRow:
    name: str
    also: tuple[str, ...]
    default: str
    meaning: str


def setting_rows() -> list[SettingRow]:
    return [_row(info) for info in Settings.model_fields.values()]


def markdown_table() -> str:
    lines = ["| name | default | meaning | also read |", "|---|---|---|---|"]
    for row in setting_rows():
        also = ", ".join(f"`{name}`" for name in row.also)
        default = f"`{row.default}`" if row.default else ""
        lines.append(f"| `{row.name}` | {default} | {row.meaning} | {also} |")
    return "\n".join(lines)


def _row(info: FieldInfo) -> SettingRow:
    own, *others = names_of(info)
    if is_secret(info):
        others = [f"{own}_FILE", *others]
    default = info.default
    if isinstance(default, Path):
        shown = str(default)
    elif default is None or default == ():
        shown = ""
    else:
        shown = str(default).lower() if isinstance(default, bool) else str(default)
    return SettingRow(own, tuple(others), shown, (info.description or "").replace("\n", " "))

"""Where settings come from: the environment, ``NAME_FILE`` for secrets, and ``clawlama.toml`` in the data folder.

The environment wins over the file. A misspelt ``CLAWLAMA_…`` name is an error, not a silent default.
"""

import difflib
import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import AliasChoices, SecretStr, ValidationError
from pydantic.fields import FieldInfo

from supervisor.errors import SettingsError
from supervisor.identity import refusal
from supervisor.settings.settings import Settings

PREFIX = "CLAWLAMA_"
CONFIG_FILE = "clawlama.toml"
LISTS = ("models", "openclaw_origins", "telegram_allow_from")  # comma separated where they are text
NOT_SETTINGS = {
    "CLAWLAMA_OWNER",  # the mark on processes that a supervisor started: a command may run inside one
    "CLAWLAMA_TEST_OLLAMA",  # the server that the contract tests talk to
}


def load_settings(environ: Mapping[str, str] | None = None, **overrides: object) -> Settings:
    """Read everything the user said; ``overrides`` come from command-line options and win.

    Raises SettingsError, naming the variable, its value and what would be right.
    """
    env = dict(os.environ if environ is None else environ)
    known = known_names() | NOT_SETTINGS
    if unknown := sorted(name for name in env if name.startswith(PREFIX) and name not in known):
        raise SettingsError(unknown_name(unknown[0]))
    values: dict[str, Any] = {}
    for field, info in Settings.model_fields.items():
        if (found := from_environment(info, env)) is not None:
            values[field] = found
    values |= {name: value for name, value in overrides.items() if value is not None}
    data = Path(values.get("data", default_data(env))).expanduser()
    values = {**from_file(data / CONFIG_FILE), **values, "data": data}
    for name in LISTS:
        if isinstance(text := values.get(name), str):
            values[name] = tuple(part for part in text.replace(" ", "").split(",") if part)
    try:
        return Settings.model_validate(values)
    except ValidationError as exc:
        raise SettingsError(explain(exc)) from exc


def default_data(env: Mapping[str, str], container: Path = Path("/data")) -> Path:
    """``/data`` in a container that has one, else the user's own data folder."""
    if container.is_dir() and os.access(container, os.W_OK):
        return container
    home = env.get("XDG_DATA_HOME") or str(Path(env.get("HOME") or Path.home()) / ".local" / "share")
    return Path(home) / "clawlama"


def asked_identity(environ: Mapping[str, str] | None = None) -> tuple[str, str]:
    """What PUID and PGID say: whom a container that is started as root should run as."""
    env = os.environ if environ is None else environ
    return env.get("PUID", ""), env.get("PGID", "")


def data_folder(environ: Mapping[str, str] | None = None) -> Path:
    """Where the data is, as far as the environment says; a command's own option may differ."""
    env = os.environ if environ is None else environ
    return Path(env.get("CLAWLAMA_DATA") or default_data(env)).expanduser()


def move_in(home: Path) -> None:
    """This process and its children have their home here; a user without a name gets one, which libraries ask for."""
    os.environ.update(HOME=str(home), USER="clawlama", LOGNAME="clawlama")


def names_of(info: FieldInfo) -> tuple[str, ...]:
    """The environment names of one setting, ours first."""
    assert isinstance(info.validation_alias, AliasChoices)
    return tuple(str(choice) for choice in info.validation_alias.choices)


def is_secret(info: FieldInfo) -> bool:
    return SecretStr in getattr(info.annotation, "__args__", ())


def known_names() -> set[str]:
    return set(_known())


def _known() -> Iterator[str]:
    for info in Settings.model_fields.values():
        for name in names_of(info):
            yield name
            if is_secret(info):
                yield f"{name}_FILE"


def unknown_name(name: str) -> str:
    ours = {known.removeprefix(PREFIX) for known in known_names() if known.startswith(PREFIX)}
    near = difflib.get_close_matches(name.removeprefix(PREFIX), sorted(ours), n=1)  # what all share says nothing
    hint = f"did you mean {PREFIX}{near[0]}?" if near else "see the settings table in the README"
    return f"{name} is not a setting; {hint}"


def from_environment(info: FieldInfo, env: Mapping[str, str]) -> str | None:
    """The value of the first name that is set and not empty; a secret may stand in the file that NAME_FILE names."""
    for name in names_of(info):
        direct, file = env.get(name, ""), env.get(f"{name}_FILE", "") if is_secret(info) else ""
        if direct and file:
            raise SettingsError(f"{name} and {name}_FILE are both set; keep one")
        if direct:
            return direct
        if file:
            return secret_from(name, Path(file))
    return None


def secret_from(name: str, path: Path) -> str:
    try:
        text = path.read_text().strip()
    except OSError as exc:
        raise SettingsError(f"{name}_FILE={path} cannot be read: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise SettingsError(f"{name}_FILE={path} is not text; it should hold the secret and nothing else") from exc
    if not text:
        raise SettingsError(f"{name}_FILE={path} is empty")
    return text


def from_file(path: Path) -> dict[str, Any]:
    """Settings by their short names (``model = "tiny-chat"``); an unknown one is an error."""
    try:
        values = tomllib.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as exc:
        hint = "make it readable for this user" if os.access(path.parent, os.X_OK) else refusal(path.parent)
        raise SettingsError(f"{path} cannot be read: {exc.strerror}; {hint}") from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise SettingsError(f"{path}: {exc}") from exc
    if "data" in values:
        raise SettingsError(f"{path}: 'data' cannot be set in the data folder itself; use CLAWLAMA_DATA")
    for name in values:
        if name not in Settings.model_fields:
            near = difflib.get_close_matches(name, Settings.model_fields, n=1)
            raise SettingsError(f"{path}: {name!r} is not a setting" + (f"; did you mean {near[0]}?" if near else ""))
    return values


def explain(error: ValidationError) -> str:
    """One line per wrong value: the name a user types, what they typed, what it must be."""
    lines = []
    for problem in error.errors():
        field = str(problem["loc"][0])
        info = next((i for f, i in Settings.model_fields.items() if f == field or field in names_of(i)), None)
        name = names_of(info)[0] if info else field
        shown = "(hidden)" if info and is_secret(info) else repr(problem["input"])
        lines.append(f"{name}={shown}: {problem['msg']}")
    return "; ".join(lines)


def child_environment(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """What our child processes inherit: everything but our secrets."""
    env = dict(os.environ if environ is None else environ)
    secret = {name for info in Settings.model_fields.values() if is_secret(info) for name in names_of(info)}
    return {
        name: value for name, value in env.items() if name not in secret and name.removesuffix("_FILE") not in secret
    }

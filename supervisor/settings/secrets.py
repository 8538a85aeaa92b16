"""Tokens: given by the user, or made once and kept in the data folder, readable by its owner only."""

import os
import secrets
from pathlib import Path

from pydantic import SecretStr

from supervisor.errors import SettingsError

MIN_LENGTH = 24  # OpenClaw calls shorter gateway tokens critical


def token(path: Path, given: SecretStr | None) -> tuple[str, bool]:
    """The token and whether it was made just now.

    Raises SettingsError when the given one, or the one in the file, is too short to be safe.
    """
    if given is not None:
        return long_enough(given.get_secret_value(), f"the given {path.name}"), False
    try:
        return long_enough(path.read_text().strip(), str(path)), False
    except FileNotFoundError:
        fresh = secrets.token_urlsafe(32)
        write_private(path, fresh + "\n")
        return fresh, True
    except (OSError, UnicodeDecodeError) as exc:
        raise SettingsError(f"{path} cannot be read ({exc}); correct it, or remove it and a new token is made") from exc


def long_enough(text: str, origin: str) -> str:
    if len(text) < MIN_LENGTH:
        raise SettingsError(f"{origin} has {len(text)} characters; a token needs at least {MIN_LENGTH}")
    return text


def write_private(path: Path, text: str) -> None:
    """Write with mode 0600 from the first byte on; whole or not at all."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)  # a leftover would keep its own mode
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)

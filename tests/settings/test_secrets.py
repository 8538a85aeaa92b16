from pathlib import Path

import pytest
from pydantic import SecretStr

from supervisor.errors import SettingsError
from supervisor.settings.secrets import token, write_private

GIVEN = SecretStr("a-token-of-more-than-24-characters")


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_a_token_is_made_once_and_is_the_owners_alone(tmp_path: Path) -> None:
    first, made = token(tmp_path / "api_token", None)
    again, made_again = token(tmp_path / "api_token", None)

    assert (made, made_again) == (True, False)
    assert first == again
    assert len(first) >= 32
    assert mode(tmp_path / "api_token") == 0o600


def test_two_tokens_differ(tmp_path: Path) -> None:
    assert token(tmp_path / "a", None) != token(tmp_path / "b", None)


def test_a_given_token_is_used_and_not_written(tmp_path: Path) -> None:
    assert token(tmp_path / "api_token", GIVEN) == (GIVEN.get_secret_value(), False)
    assert not any(tmp_path.iterdir())


def test_a_given_token_that_is_too_short_is_refused_without_showing_it(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as error:
        token(tmp_path / "api_token", SecretStr("swordfish"))

    assert str(error.value) == "the given api_token has 9 characters; a token needs at least 24"


def test_a_stored_token_that_is_too_short_is_refused_with_its_file(tmp_path: Path) -> None:
    (tmp_path / "api_token").write_text("short\n")

    with pytest.raises(SettingsError, match=f"{tmp_path}/api_token has 5 characters"):
        token(tmp_path / "api_token", None)


def test_a_token_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "api_token").write_bytes(b"\xff" * 40)

    with pytest.raises(SettingsError, match=f"{tmp_path}/api_token cannot be read"):
        token(tmp_path / "api_token", None)


def test_private_text_replaces_an_older_file_and_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for leftover in (path, tmp_path / ".file.new"):
        leftover.write_text("old")
        leftover.chmod(0o644)

    write_private(path, "new")

    assert (path.read_text(), mode(path)) == ("new", 0o600)
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]

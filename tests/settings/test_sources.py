from pathlib import Path

import pytest

from supervisor.errors import SettingsError
from supervisor.settings.settings import Settings
from supervisor.settings.sources import child_environment, default_data, known_names, load_settings

TOKEN = "a-token-of-more-than-24-characters"


def load(data: Path, **environ: str) -> Settings:
    return load_settings({"CLAWLAMA_DATA": str(data), **environ})


def shown(value: object) -> object:
    return value.get_secret_value() if hasattr(value, "get_secret_value") else value


@pytest.mark.parametrize(
    ("name", "field", "value", "expected"),
    [
        ("CLAAS_BASE_MODEL_ID", "model", "Qwen/Qwen3-8B", "Qwen/Qwen3-8B"),
        ("MODEL", "model", "Qwen/Qwen3-8B", "Qwen/Qwen3-8B"),
        ("LORA_NAME", "adapter", "me/mine", "me/mine"),
        ("MAX_MODEL_LEN", "context_window", "32768", 32768),
        ("OLLAMA_NUM_THREADS", "threads", "3", 3),
        ("OLLAMA_NUM_PARALLEL", "parallel", "1", 1),
        ("CLAAS_API_HOST", "api_host", "0.0.0.0", "0.0.0.0"),
        ("CLAAS_API_PORT", "api_port", "9090", 9090),
        ("OPENCLAW_PORT", "openclaw_port", "9091", 9091),
        ("OPENCLAW_GATEWAY_TOKEN", "openclaw_token", TOKEN, TOKEN),
        ("TELEGRAM_BOT_TOKEN", "telegram_bot_token", "12:ab", "12:ab"),
        ("FEEDBACK_BATCH_SIZE", "feedback_batch_size", "8", 8),
        ("FEEDBACK_DRAIN_TIMEOUT_S", "drain_timeout_s", "5", 5.0),
        ("FEEDBACK_LOG_DIR", "feedback_log_dir", "/var/log/f", Path("/var/log/f")),
    ],
)
def test_names_of_the_older_systems_are_read(
    tmp_path: Path, name: str, field: str, value: str, expected: object
) -> None:
    settings = load(tmp_path, **{name: value})

    assert shown(getattr(settings, field)) == expected


def test_our_own_name_wins_over_the_older_one(tmp_path: Path) -> None:
    assert load(tmp_path, CLAWLAMA_MODEL="ours", MODEL="theirs").model == "ours"


def test_an_empty_variable_is_an_unset_one(tmp_path: Path) -> None:
    settings = load(tmp_path, CLAWLAMA_MODEL="", CLAWLAMA_THREADS="", CLAWLAMA_API_TOKEN="")

    assert (settings.model, settings.threads, settings.api_token) == (None, None, None)


def test_options_win_over_the_environment_and_absent_ones_do_not(tmp_path: Path) -> None:
    settings = load_settings({"CLAWLAMA_DATA": str(tmp_path), "CLAWLAMA_API_PORT": "1"}, api_port=2, model=None)

    assert (settings.api_port, settings.model) == (2, None)


@pytest.mark.parametrize("name", ["CLAWLAMA_API_TOKEN", "OPENCLAW_GATEWAY_TOKEN", "TELEGRAM_BOT_TOKEN"])
def test_a_secret_is_read_from_the_file_that_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret").write_text(f"{TOKEN}\n")

    settings = load(tmp_path, **{f"{name}_FILE": str(tmp_path / "secret")})

    given = (settings.api_token, settings.openclaw_token, settings.telegram_bot_token)
    assert [secret.get_secret_value() for secret in given if secret] == [TOKEN]


def test_a_secret_given_twice_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="CLAWLAMA_API_TOKEN and CLAWLAMA_API_TOKEN_FILE are both set; keep one"):
        load(tmp_path, CLAWLAMA_API_TOKEN=TOKEN, CLAWLAMA_API_TOKEN_FILE="/run/secrets/token")


@pytest.mark.parametrize(
    ("content", "problem"), [(None, "cannot be read: No such file"), (b" \n", "is empty"), (b"\xff\xfe", "is not text")]
)
def test_a_secret_file_that_holds_none_is_an_error(tmp_path: Path, content: bytes | None, problem: str) -> None:
    if content is not None:
        (tmp_path / "secret").write_bytes(content)

    with pytest.raises(SettingsError, match=f"CLAWLAMA_API_TOKEN_FILE={tmp_path}/secret {problem}"):
        load(tmp_path, CLAWLAMA_API_TOKEN_FILE=f"{tmp_path}/secret")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("CLAWLAMA_MODLE", "did you mean CLAWLAMA_MODEL?"),
        ("CLAWLAMA_MODEL_FILE", "did you mean CLAWLAMA_MODEL?"),
        ("CLAWLAMA_OPENCLAWPORT", "did you mean CLAWLAMA_OPENCLAW_PORT?"),
        ("CLAWLAMA_XYZZY_QWERTY_PLUGH_42", "see the settings table in the README"),
    ],
)
def test_a_misspelt_name_is_an_error_that_knows_the_right_one(tmp_path: Path, name: str, hint: str) -> None:
    with pytest.raises(SettingsError) as error:
        load(tmp_path, **{name: "1"})

    assert str(error.value) == f"{name} is not a setting; {hint}"


def test_the_mark_on_our_own_children_is_no_misspelt_setting(tmp_path: Path) -> None:
    assert load(tmp_path, CLAWLAMA_OWNER="/data#1").model is None


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("CLAWLAMA_API_PORT", "70000", "CLAWLAMA_API_PORT='70000': Input should be less than or equal to 65535"),
        ("OPENCLAW_PORT", "web", "CLAWLAMA_OPENCLAW_PORT='web': Input should be a valid integer"),
        ("CLAWLAMA_LEAN", "maybe", "CLAWLAMA_LEAN='maybe': Input should be 'auto', 'on' or 'off'"),
        ("CLAWLAMA_THREADS", "0", "CLAWLAMA_THREADS='0': Input should be greater than 0"),
        ("CLAWLAMA_TELEGRAM_ALLOW_FROM", "12, bob", "CLAWLAMA_TELEGRAM_ALLOW_FROM='bob': Input should be a valid"),
    ],
)
def test_a_wrong_value_is_shown_with_its_variable(tmp_path: Path, name: str, value: str, message: str) -> None:
    with pytest.raises(SettingsError) as error:
        load(tmp_path, **{name: value})

    assert str(error.value).startswith(message)


def test_every_wrong_value_is_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"CLAWLAMA_API_PORT='0'.*; CLAWLAMA_LEAN='x'"):
        load(tmp_path, CLAWLAMA_API_PORT="0", CLAWLAMA_LEAN="x")


def test_a_wrong_secret_is_not_shown(tmp_path: Path) -> None:
    (tmp_path / "clawlama.toml").write_text("api_token = 123456")

    with pytest.raises(SettingsError) as error:
        load(tmp_path)

    assert "CLAWLAMA_API_TOKEN=(hidden)" in str(error.value)
    assert "123456" not in str(error.value)


def test_telegram_users_are_a_comma_list(tmp_path: Path) -> None:
    assert load(tmp_path, CLAWLAMA_TELEGRAM_ALLOW_FROM="7, 8,").telegram_allow_from == (7, 8)


def test_the_file_in_the_data_folder_is_read_and_the_environment_wins(tmp_path: Path) -> None:
    (tmp_path / "clawlama.toml").write_text('model = "from-file"\nparallel = 3\ntelegram_allow_from = [7]\n')

    settings = load(tmp_path, CLAWLAMA_PARALLEL="1")

    assert (settings.model, settings.parallel, settings.telegram_allow_from) == ("from-file", 1, (7,))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b'modell = "x"', "'modell' is not a setting; did you mean model?"),
        (b"qwertyuiop = 1", "'qwertyuiop' is not a setting"),
        (b"model = ", "Invalid value"),
        (b"model = '\xff'", "can't decode byte"),
        (b'data = "/elsewhere"', "'data' cannot be set in the data folder itself"),
    ],
)
def test_a_file_that_makes_no_sense_is_named(tmp_path: Path, text: bytes, problem: str) -> None:
    (tmp_path / "clawlama.toml").write_bytes(text)

    with pytest.raises(SettingsError) as error:
        load(tmp_path)

    assert str(error.value).startswith(f"{tmp_path}/clawlama.toml: ")
    assert problem in str(error.value)


def test_a_file_that_cannot_be_read_is_not_taken_for_none(tmp_path: Path) -> None:
    (tmp_path / "clawlama.toml").mkdir()

    with pytest.raises(SettingsError, match=r"clawlama\.toml cannot be read: Is a directory"):
        load(tmp_path)


def test_a_data_folder_that_is_a_file_has_no_settings_in_it(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    assert load(tmp_path / "file").model is None


def test_a_tilde_is_the_users_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))

    assert load_settings({"CLAWLAMA_DATA": "~/claw"}).data == tmp_path / "claw"


def test_data_is_the_containers_folder_where_there_is_one(tmp_path: Path) -> None:
    assert default_data({"HOME": "/home/me"}, container=tmp_path) == tmp_path


@pytest.mark.parametrize(
    ("environ", "folder"),
    [
        ({"HOME": "/home/me"}, "/home/me/.local/share/clawlama"),
        ({"HOME": "/home/me", "XDG_DATA_HOME": "/x"}, "/x/clawlama"),
    ],
)
def test_data_is_the_users_own_folder_elsewhere(tmp_path: Path, environ: dict[str, str], folder: str) -> None:
    assert default_data(environ, container=tmp_path / "absent") == Path(folder)


def test_children_inherit_everything_but_secrets() -> None:
    secrets = {name: "x" for name in known_names() if name.removesuffix("_FILE").endswith("_TOKEN")}
    assert len(secrets) == 10

    assert child_environment({"PATH": "/bin", "CLAWLAMA_MODEL": "m", **secrets}) == {
        "PATH": "/bin",
        "CLAWLAMA_MODEL": "m",
    }

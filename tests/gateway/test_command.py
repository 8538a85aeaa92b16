from pathlib import Path

import pytest

from supervisor.errors import MachineError
from supervisor.gateway.command import OpenClaw, Tokens, cli_command, environment, gateway_command, prepare_folders
from supervisor.gateway.find import Runtime

RUNTIME = Runtime(Path("/opt/bin/node"), "24.21.0", Path("/opt/openclaw/openclaw.mjs"), "2026.9.6")
SECRET = "a-token-that-nobody-may-see"


def openclaw_in(folder: Path, telegram: str | None = None, **surroundings: str) -> OpenClaw:
    tokens = Tokens(gateway=SECRET, api=SECRET, telegram=telegram)
    return OpenClaw(RUNTIME, folder / "openclaw", folder / "workspace", tokens, surroundings)


def test_the_gateway_runs_in_the_foreground_in_its_workspace(tmp_path: Path) -> None:
    command = gateway_command(openclaw_in(tmp_path), 18790)

    program = ("/opt/bin/node", "/opt/openclaw/openclaw.mjs")
    assert command.argv == (*program, "gateway", "run", "--port", "18790", "--bind", "loopback")
    assert command.cwd == tmp_path / "workspace"


def test_every_path_it_writes_to_is_in_its_own_folder(tmp_path: Path) -> None:
    given = environment(openclaw_in(tmp_path, HOME="/home/me", TMPDIR="/tmp"))

    for name in (
        "HOME",
        "TMPDIR",
        "XDG_CACHE_HOME",
        "NODE_COMPILE_CACHE",
        "OPENCLAW_STATE_DIR",
        "OPENCLAW_CONFIG_PATH",
    ):
        assert Path(given[name]).is_relative_to(tmp_path / "openclaw"), name


def test_it_sees_of_our_environment_only_what_is_listed(tmp_path: Path) -> None:
    given = environment(
        openclaw_in(tmp_path, PATH="/usr/bin", TZ="Asia/Tokyo", AWS_SECRET_ACCESS_KEY="x", HF_TOKEN="y")
    )

    assert given["TZ"] == "Asia/Tokyo"
    assert given["PATH"] == "/opt/bin:/usr/bin"
    assert not {"AWS_SECRET_ACCESS_KEY", "HF_TOKEN"} & set(given)


def test_a_proxy_for_the_outside_never_swallows_our_own_api(tmp_path: Path) -> None:
    given = environment(openclaw_in(tmp_path, HTTP_PROXY="http://proxy:3128", NO_PROXY="nas"))

    assert given["HTTP_PROXY"] == "http://proxy:3128"
    assert given["NO_PROXY"] == "nas,127.0.0.1,localhost,::1"


@pytest.mark.parametrize("telegram", [None, "123:abc"])
def test_the_telegram_token_is_given_only_when_there_is_one(tmp_path: Path, telegram: str | None) -> None:
    assert environment(openclaw_in(tmp_path, telegram)).get("TELEGRAM_BOT_TOKEN") == telegram


def test_tokens_stay_out_of_logs_and_argument_lists(tmp_path: Path) -> None:
    openclaw = openclaw_in(tmp_path, "123:abc")

    assert SECRET not in repr(openclaw)
    assert "123:abc" not in repr(openclaw)
    assert SECRET not in " ".join(cli_command(openclaw, "agent").argv)


def test_folders_are_private_and_temporary_files_of_a_killed_gateway_go(tmp_path: Path) -> None:
    openclaw = openclaw_in(tmp_path)
    openclaw.temporary.mkdir(parents=True)
    (openclaw.temporary / "left-behind").write_text("x")

    prepare_folders(openclaw)

    assert list(openclaw.temporary.iterdir()) == []
    assert openclaw.state.stat().st_mode & 0o777 == 0o700


def test_a_place_that_cannot_hold_the_folders_is_named(tmp_path: Path) -> None:
    (tmp_path / "openclaw").write_text("a file")

    with pytest.raises(MachineError, match=str(tmp_path / "openclaw")):
        prepare_folders(openclaw_in(tmp_path))


def test_a_relative_folder_holds_for_openclaw_too_which_runs_elsewhere() -> None:
    given = environment(openclaw_in(Path("data")))

    assert given["OPENCLAW_CONFIG_PATH"] == str(Path("data/openclaw/openclaw.json").absolute())

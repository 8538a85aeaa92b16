"""``docker run`` as people type it first: with nothing at all, and with a folder of their own."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.image.engine import Container, container
from tests.image.life import (
    TINY,
    chat,
    ends,
    folder_of_root,
    health,
    owners,
    recorded,
    starts_again,
    stops,
    until,
    until_ready,
)

RIGHTS = ("CHOWN", "DAC_OVERRIDE", "KILL", "SETGID", "SETUID")
"""What a container that starts as root needs, and nothing more."""

TELEGRAM = "8123456789:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw0"
AS_ROOT = ("--user", "0", "--cap-drop", "ALL", *(word for right in RIGHTS for word in ("--cap-add", right)))


@pytest.fixture(scope="module")
def plain(image: str) -> Iterator[Container]:
    """No option: the image's own Ollama, and the model that it finds right for the machine, from a slow registry."""
    with container(image, env={"STANDIN_QUIRKS": '{"pull_bytes_per_second": 250000}'}) as one:
        yield one


@pytest.fixture(scope="module")
def mounted(image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    """A folder of root's, and a user of the machine's own."""
    with folder_of_root(image, tmp_path_factory.mktemp("mounted") / "data") as folder:
        options = (*AS_ROOT, "--security-opt", "no-new-privileges", "--volume", f"{folder}:/data")
        with container(image, options=options, env=TINY | {"PUID": "1234", "PGID": "4321"}) as one:
            yield one


@pytest.fixture(scope="module", autouse=True)
def at_the_same_time(plain: Container, mounted: Container) -> None:
    """Both start while the first is waited for."""


def test_a_plain_docker_run_gets_a_model_and_answers(plain: Container) -> None:
    until(lambda: bool(re.fullmatch(r"pulling \S+ \d+ %.*", health(plain)[1])), plain)
    assert health(plain)[0] == 0

    until_ready(plain)

    assert chat(plain, "What is tea?")
    assert re.search(r"pulling \S+ \d+ %", plain.logs())
    assert "#token=" in plain.logs(), "the way in"


def test_nothing_in_it_runs_as_root_and_nothing_but_the_data_can_be_written(plain: Container) -> None:
    elsewhere = (
        "(",
        "-path",
        "/data",
        "-o",
        "-path",
        "/tmp",
        "-o",
        "-path",
        "/var/tmp",
        "-o",
        "-path",
        "/run/lock",
        ")",
        "-prune",
    )

    found = plain.exec("find", "/", "-xdev", *elsewhere, "-o", "-writable", "-not", "-type", "l", "-print")

    assert plain.exec("id", "-u").stdout.strip() == "1000"
    assert found.stdout.split() == []
    assert plain.exec("touch", "/etc/passwd").returncode != 0


def test_docker_stop_while_idle_ends_it_well_and_docker_start_goes_on(plain: Container) -> None:
    stops(plain)
    assert "everything you taught it is kept" in plain.logs()

    starts_again(plain)

    assert chat(plain, "What is rain?")
    assert "What is tea?" in recorded(plain)


def test_a_folder_of_root_is_given_to_puid_and_pgid(mounted: Container) -> None:
    until_ready(mounted)

    assert chat(mounted, "What is tea?")
    assert owners(mounted) == {"1234:4321"}
    assert mounted.exec("sh", "-c", "grep ^Uid /proc/[0-9]*/status | grep -c 1234").stdout.strip() != "0"


@pytest.mark.parametrize("service", ["engine", "openclaw"])
def test_a_service_that_hangs_makes_it_unhealthy_within_half_a_minute(mounted: Container, service: str) -> None:
    until(lambda: mounted.state["Health"]["Status"] == "healthy", mounted)
    services = json.loads(mounted.exec("clawlama", "status", "--json").stdout)["services"]
    pid = next(one["pid"] for one in services if one["name"] == service)

    assert mounted.exec("sh", "-c", f"kill -STOP {pid}", user="1234").returncode == 0
    until(lambda: mounted.state["Health"]["Status"] == "unhealthy", mounted, patience=30)

    assert f"{service} is hanging" in mounted.state["Health"]["Log"][-1]["Output"]
    mounted.exec("sh", "-c", f"kill -CONT {pid}", user="1234")
    until(lambda: mounted.state["Health"]["Status"] == "healthy", mounted)
    assert chat(mounted, "What is wind?")


def test_commands_by_docker_exec_as_root_leave_nothing_of_root(mounted: Container) -> None:
    assert mounted.exec("clawlama", "status", user="0").returncode == 0
    assert chat(mounted, "What is rain?", user="0")

    assert owners(mounted) == {"1234:4321"}
    stops(mounted)


def test_without_root_a_folder_of_root_is_refused_at_once_with_both_remedies(image: str, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with folder_of_root(image, folder), container(image, options=("--volume", f"{folder}:/data")) as one:
        assert ends(one, patience=60) == 1
        said = one.logs()

    assert "/data belongs to 0:0 (mode 755), and we run as 1000:1000" in said
    assert "sudo chown -R 1000:1000 FOLDER" in said
    assert "docker run --user 0 -e PUID=1000 -e PGID=1000" in said
    assert "Traceback" not in said


def test_a_stop_in_the_first_moment_is_a_stop_like_any_other(image: str) -> None:
    with container(image) as one:
        stops(one)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--user", "0", "--env", "PUID=me"), "PUID=me is not a number"),
        (("--user", "0", "--cap-drop", "ALL"), "cannot become 1000:1000 (PUID:PGID)"),
        (("--env", "CLAWLAMA_MODLE=x"), "did you mean CLAWLAMA_MODEL"),
    ],
)
def test_what_cannot_work_ends_at_once_and_says_why(image: str, options: tuple[str, ...], said: str) -> None:
    with container(image, options=options) as one:
        assert ends(one, patience=60) == 1

        assert said in one.logs()


def test_a_telegram_that_cannot_be_reached_takes_nobody_down_and_delays_no_stop(image: str) -> None:
    with container(image, env=TINY | {"CLAWLAMA_TELEGRAM_BOT_TOKEN": TELEGRAM}) as one:
        until_ready(one)

        assert chat(one, "What is tea?")
        until(lambda: one.state["Health"]["Status"] == "healthy", one)
        assert "telegram" in one.logs().lower()
        assert TELEGRAM not in one.logs()
        stops(one)

"""What a home server does to a container: restarts, an update, a clock that jumps, a disk that fills up."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.image.engine import ROOT, Container, container, docker, unused, volume
from tests.image.life import (
    PATIENCE,
    TINY,
    chat,
    ends,
    health,
    owners,
    recorded,
    until,
    until_ready,
)

BEFORE_THE_IMAGE = "a3c598e40737"
"""The last commit before there was an image: what it wrote into a data folder, each later one must take over. It
refuses the one name in this image's environment that it does not know."""

PREVIOUS = """
FROM {image}
USER 0
RUN rm -r {package}
COPY supervisor {package}
COPY templates {package}/_templates
COPY models/tiny-chat {package}/_models/tiny-chat
COPY image/openclaw-plugin {package}/_plugin
RUN sed -i 's/^from/import os; os.environ.pop("CLAWLAMA_LOG_FORMAT", None)\\nfrom/' /usr/local/bin/clawlama
USER 1000:1000
"""
PACKAGE = "/opt/clawlama/lib/python3.11/site-packages/supervisor"

CLOCK = "/data/clock"
SHIM = f"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
static long jump(void) {{
  char text[32] = {{0}};
  int file = open("{CLOCK}", O_RDONLY | O_CLOEXEC);
  if (file < 0) return 0;
  long got = read(file, text, sizeof text - 1);
  close(file);
  return got > 0 ? atol(text) : 0;
}}
int clock_gettime(clockid_t which, struct timespec *now) {{
  int code = syscall(SYS_clock_gettime, which, now);
  if (code == 0 && (which == CLOCK_REALTIME || which == CLOCK_REALTIME_COARSE)) now->tv_sec += jump();
  return code;
}}
int gettimeofday(struct timeval *restrict now, void *restrict zone) {{
  struct timespec exact;
  clock_gettime(CLOCK_REALTIME, &exact);
  now->tv_sec = exact.tv_sec, now->tv_usec = exact.tv_nsec / 1000;
  return 0;
}}
time_t time(time_t *also) {{
  struct timespec exact;
  clock_gettime(CLOCK_REALTIME, &exact);
  if (also) *also = exact.tv_sec;
  return exact.tv_sec;
}}
"""
"""The wall clock is off by what a file says, in seconds; monotonic clocks and sleeps are the kernel's own."""

JUMPING = """
FROM {image}
USER 0
COPY shim.so /usr/local/lib/shim.so
RUN echo /usr/local/lib/shim.so >/etc/ld.so.preload
USER 1000:1000
"""


@contextmanager
def derived(image: str, dockerfile: str, folder: Path) -> Iterator[str]:
    """An image made from another one and a folder; removed afterwards."""
    name = unused("image")
    (folder / "Dockerfile").write_text(dockerfile)
    docker("build", "--quiet", "--tag", name, str(folder), timeout=PATIENCE)
    try:
        yield name
    finally:
        docker("image", "rm", "--force", name)


@contextmanager
def disk_of(size: str) -> Iterator[str]:
    """A volume that holds so much, in memory; gone when its container stops."""
    name = unused("volume")
    options = ("type=tmpfs", "device=tmpfs", f"o=size={size},mode=1777")
    docker("volume", "create", *(word for option in options for word in ("--opt", option)), name)
    try:
        yield name
    finally:
        docker("volume", "rm", "--force", name)


@pytest.fixture(scope="module", autouse=True)
def restarted(image: str) -> Iterator[tuple[Container, Future[None]]]:
    """A user without a name, restarted again and again in the middle of the start while other tests run."""
    with volume() as home, ThreadPoolExecutor(1) as beside:
        mount = ("--user", "1234:1234", "--volume", f"{home}:/data")
        with container(image, options=mount, env=TINY) as one:
            yield one, beside.submit(restart_ten_times, one)


def restart_ten_times(one: Container) -> None:
    for _ in range(10):
        until(lambda: health(one)[0] == 0, one)
        docker("restart", one.name)
    until_ready(one)


def test_what_an_earlier_version_left_is_served_by_this_one(image: str, tmp_path: Path) -> None:
    if subprocess.run(["git", "cat-file", "-e", f"{BEFORE_THE_IMAGE}^{{commit}}"], cwd=ROOT, check=False).returncode:
        pytest.skip(f"the history has no {BEFORE_THE_IMAGE}: a shallow clone")
    parts = ("supervisor", "templates", "models/tiny-chat", "image/openclaw-plugin")
    code = subprocess.run(
        ["git", "archive", BEFORE_THE_IMAGE, *parts], cwd=ROOT, check=True, capture_output=True
    ).stdout
    subprocess.run(["tar", "-x"], cwd=tmp_path, input=code, check=True)
    with derived(image, PREVIOUS.format(image=image, package=PACKAGE), tmp_path) as previous, volume() as home:
        mount = ("--volume", f"{home}:/data")
        with container(previous, options=mount, env=TINY) as old:
            until(lambda: "is ready after" in old.logs(), old)
            assert chat(old, "What is tea?")
            assert "v0001" in old.exec("clawlama", "feedback", "no emojis, please", timeout=PATIENCE).stdout
            docker("stop", old.name)

        with container(image, options=mount, env=TINY) as new:
            until_ready(new)

            assert chat(new, "What is rain?")
            assert "v0001" in new.exec("clawlama", "status").stdout
            assert "What is tea?" in recorded(new)


def test_a_clock_that_jumps_stops_nobody(image: str, tmp_path: Path) -> None:
    if (compiler := shutil.which("cc")) is None:
        pytest.skip("no C compiler for the clock that jumps")
    (tmp_path / "shim.c").write_text(SHIM)
    subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-o", "shim.so", "shim.c"], cwd=tmp_path, check=True)
    with derived(image, JUMPING.format(image=image), tmp_path) as jumping, container(jumping, env=TINY) as one:
        until_ready(one)
        assert chat(one, "What is tea?")

        for days in (3, -2):
            before = int(one.exec("date", "+%s").stdout)
            one.exec("sh", "-c", f"echo {days * 86400} >{CLOCK}.new && mv {CLOCK}.new {CLOCK}")
            assert abs(int(one.exec("date", "+%s").stdout) - before) > 86400
            assert chat(one, "What is rain?"), days
            assert health(one) == (0, "ready")


def test_a_disk_that_fills_up_loses_nothing_and_room_heals_it(image: str) -> None:
    with disk_of("2300m") as disk, container(image, options=("--volume", f"{disk}:/data"), env=TINY) as one:
        until_ready(one)
        assert chat(one, "What is tea?")

        one.exec("sh", "-c", "cat /dev/zero >/data/filler", timeout=PATIENCE)
        full = one.exec("clawlama", "chat", "What is rain?", timeout=PATIENCE)
        assert full.stdout.strip() or "Traceback" not in full.stderr
        assert one.state["Running"]

        one.exec("rm", "/data/filler")
        until_ready(one)
        until(lambda: one.exec("clawlama", "chat", "What is wind?").returncode == 0, one)
        assert "What is tea?" in recorded(one)
        assert "What is wind?" in recorded(one)


def test_a_disk_that_is_full_is_said_at_once(image: str) -> None:
    with disk_of("100m") as disk, container(image, options=("--volume", f"{disk}:/data"), env=TINY) as one:
        assert ends(one, patience=60) == 1

        assert re.search(r"disk: 0\.\d GiB free at /data, 2 GiB are needed", one.logs())


def test_ten_restarts_later_a_user_without_a_name_is_served_and_taught(
    restarted: tuple[Container, Future[None]],
) -> None:
    one, restarts = restarted
    restarts.result()

    assert chat(one, "What is tea?")
    assert "v0001" in one.exec("clawlama", "feedback", "no emojis, please", timeout=PATIENCE).stdout
    assert owners(one, "/data/adapters") == {"1234:1234"}

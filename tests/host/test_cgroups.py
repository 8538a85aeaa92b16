"""Recorded ``/proc/self`` files of machines and containers; the mount points are moved into a temporary folder."""

from pathlib import Path

import pytest

from supervisor.host.cgroups import groups, number, read


def proc(root: Path, cgroup: str, mountinfo: str, *made: str) -> Path:
    """``/proc/self`` of a machine whose root is ``root``, with these control groups on it."""
    folder = root / "proc"
    folder.mkdir()
    (folder / "cgroup").write_text(cgroup)
    (folder / "mountinfo").write_text(mountinfo.replace("/sys/fs", f"{root}/sys/fs"))
    for path in made:
        (root / path.lstrip("/")).mkdir(parents=True, exist_ok=True)
    return folder


def seen(root: Path, folder: Path, controller: str = "memory") -> list[str]:
    return [f"/{path.relative_to(root)}" for path in groups(controller, folder)]


V2 = "31 23 0:28 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"


def test_every_slice_above_a_systemd_service_counts(tmp_path: Path) -> None:
    own = "/sys/fs/cgroup/system.slice/clawlama.service"
    folder = proc(tmp_path, "0::/system.slice/clawlama.service\n", V2, own)

    assert seen(tmp_path, folder) == [own, "/sys/fs/cgroup/system.slice", "/sys/fs/cgroup"]


def test_a_container_with_a_namespace_of_its_own_sees_its_group_as_the_root(tmp_path: Path) -> None:
    folder = proc(tmp_path, "0::/\n", V2, "/sys/fs/cgroup")

    assert seen(tmp_path, folder) == ["/sys/fs/cgroup"]


@pytest.mark.parametrize("path", ["/../../elsewhere", "/docker/0123", "/not/made"])
def test_a_group_that_is_not_to_be_seen_leaves_what_is_mounted(tmp_path: Path, path: str) -> None:
    folder = proc(tmp_path, f"0::{path}\n", V2, "/sys/fs/cgroup")

    assert seen(tmp_path, folder) == ["/sys/fs/cgroup"]


V1_CONTAINER = """
35 31 0:32 /docker/0123 /sys/fs/cgroup/memory ro,nosuid master:11 - cgroup cgroup rw,memory
36 31 0:33 /docker/0123 /sys/fs/cgroup/cpu,cpuacct ro,nosuid master:12 - cgroup cgroup rw,cpu,cpuacct
"""


def test_version_one_shows_a_container_its_own_group_under_a_foreign_name(tmp_path: Path) -> None:
    lines = "9:memory:/docker/0123\n4:cpu,cpuacct:/docker/0123\n1:name=systemd:/docker/0123\n"
    folder = proc(tmp_path, lines, V1_CONTAINER, "/sys/fs/cgroup/memory", "/sys/fs/cgroup/cpu,cpuacct")

    assert seen(tmp_path, folder) == ["/sys/fs/cgroup/memory"]
    assert seen(tmp_path, folder, "cpu") == ["/sys/fs/cgroup/cpu,cpuacct"]


BOTH = """
35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
"""


def test_both_versions_at_once_are_both_looked_at(tmp_path: Path) -> None:
    own = "/sys/fs/cgroup/memory/user/1"
    folder = proc(tmp_path, "4:memory:/user/1\n0::/\n", BOTH, own, "/sys/fs/cgroup/unified")

    expected = [own, "/sys/fs/cgroup/memory/user", "/sys/fs/cgroup/memory", "/sys/fs/cgroup/unified"]
    assert seen(tmp_path, folder) == expected


def test_a_blank_in_a_path_is_read(tmp_path: Path) -> None:
    folder = proc(tmp_path, "0::/\n", V2.replace("cgroup rw", "my\\040groups rw"), "/sys/fs/my groups")

    assert seen(tmp_path, folder) == ["/sys/fs/my groups"]


@pytest.mark.parametrize(("cgroup", "mountinfo"), [("", V2), ("0::/\n", ""), ("nonsense", "more of it - cgroup2")])
def test_what_says_nothing_gives_no_groups(tmp_path: Path, cgroup: str, mountinfo: str) -> None:
    assert groups("memory", proc(tmp_path, cgroup, mountinfo)) == ()


def test_no_proc_at_all_gives_no_groups(tmp_path: Path) -> None:
    assert groups("memory", tmp_path / "absent") == ()


@pytest.mark.parametrize(
    ("text", "value"), [("12", 12), ("max", None), ("-1", None), ("", None), (None, None), ("1x", None)]
)
def test_a_number_is_read_and_anything_else_is_no_limit(text: str | None, value: int | None) -> None:
    assert number(text) == value


def test_a_folder_is_no_file_to_read(tmp_path: Path) -> None:
    assert read(tmp_path) is None

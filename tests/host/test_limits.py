"""Recorded control-group files, put into folders as the kernel shows them."""

from pathlib import Path

import psutil
import pytest

from supervisor.host import limits

GIB = 2**30
HOST = psutil.virtual_memory().total


def v2(root: Path, **files: str) -> Path:
    """Files of one folder; the first ``_`` of a name is the dot."""
    for name, text in files.items():
        (root / name.replace("_", ".", 1)).write_text(text)
    return root


def v1(root: Path, controller: str, **files: str) -> Path:
    """The same, below the folder of a controller."""
    (root / controller).mkdir()
    v2(root / controller, **files)
    return root


@pytest.mark.parametrize(
    ("text", "cpus"), [("max 100000\n", None), ("150000 100000\n", 1.5), ("50000 100000\n", 0.5), ("400000 50000", 8.0)]
)
def test_a_quota_of_version_two_is_read(tmp_path: Path, text: str, cpus: float | None) -> None:
    assert limits.cpu_quota(v2(tmp_path, cpu_max=text)) == cpus


@pytest.mark.parametrize(("quota", "cpus"), [("-1\n", None), ("250000\n", 2.5)])
def test_a_quota_of_version_one_is_read(tmp_path: Path, quota: str, cpus: float | None) -> None:
    v1(tmp_path, "cpu", cpu_cfs_quota_us=quota, cpu_cfs_period_us="100000\n")

    assert limits.cpu_quota(tmp_path) == cpus


def test_no_control_group_is_no_limit(tmp_path: Path) -> None:
    assert limits.cpu_quota(tmp_path) is None
    assert limits.memory_limit(tmp_path) == (None, 0)
    assert limits.memory(tmp_path)[0] == HOST


def test_a_quota_cuts_what_the_affinity_allows(tmp_path: Path) -> None:
    v2(tmp_path, cpu_max="50000 100000")

    assert limits.usable_cpus(tmp_path) == 0.5
    assert limits.physical_cores(tmp_path) == 1


def test_a_generous_quota_adds_no_cores(tmp_path: Path) -> None:
    v2(tmp_path, cpu_max="999900000 100000")

    assert limits.usable_cpus(tmp_path) == len(psutil.Process().cpu_affinity())


def test_a_memory_limit_of_version_two_counts(tmp_path: Path) -> None:
    v2(tmp_path, memory_max=f"{GIB}\n", memory_current=f"{GIB // 4}\n")

    assert limits.memory(tmp_path) == (GIB, GIB - GIB // 4)


def test_a_memory_limit_of_version_one_counts(tmp_path: Path) -> None:
    stat = f"cache 5\ntotal_inactive_file {GIB // 4}\n"
    v1(tmp_path, "memory", memory_limit_in_bytes=str(GIB), memory_usage_in_bytes=str(GIB // 2), memory_stat=stat)

    assert limits.memory(tmp_path) == (GIB, GIB - GIB // 4)


def test_files_that_were_read_once_do_not_count_as_used(tmp_path: Path) -> None:
    v2(tmp_path, memory_max=str(GIB), memory_current=str(GIB), memory_stat=f"anon 1\ninactive_file {GIB // 2}\n")

    assert limits.memory(tmp_path) == (GIB, GIB // 2)


@pytest.mark.parametrize("limit", ["max", "9223372036854771712"])
def test_a_limit_beyond_the_machine_is_none(tmp_path: Path, limit: str) -> None:
    v2(tmp_path, memory_max=limit, memory_current="5")

    assert limits.memory(tmp_path)[0] == HOST


def test_an_exceeded_limit_leaves_nothing(tmp_path: Path) -> None:
    v2(tmp_path, memory_max=str(GIB), memory_current=str(GIB + 5))

    assert limits.memory(tmp_path) == (GIB, 0)


def test_the_disk_of_a_folder_still_to_be_made_is_its_parents(tmp_path: Path) -> None:
    disk = limits.disk(tmp_path / "not" / "yet")

    assert disk.path == tmp_path / "not" / "yet"
    assert disk.total == limits.disk(tmp_path).total > disk.free > 0


def test_what_stands_below_a_file_is_looked_for_above_it(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    assert limits.nearest(tmp_path / "file" / "below") == tmp_path / "file"


def test_a_relative_path_ends_at_a_folder_too() -> None:
    assert limits.nearest(Path("absent/folder")).is_dir()

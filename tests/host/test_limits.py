"""Recorded control-group files, put into folders as the kernel shows them."""

from pathlib import Path

import psutil
import pytest

from supervisor.host import limits

GIB = 2**30
HOST = psutil.virtual_memory().total


def group(root: Path, **files: str) -> Path:
    """Files of one folder; the first ``_`` of a name is the dot."""
    root.mkdir(exist_ok=True)
    for name, text in files.items():
        (root / name.replace("_", ".", 1)).write_text(text)
    return root


@pytest.mark.parametrize(
    ("text", "cpus"),
    [("max 100000\n", None), ("150000 100000\n", 1.5), ("50000 100000\n", 0.5), ("400000 50000", 8.0), ("", None)],
)
def test_a_quota_of_version_two_is_read(tmp_path: Path, text: str, cpus: float | None) -> None:
    assert limits.cpu_quota((group(tmp_path, cpu_max=text),)) == cpus


@pytest.mark.parametrize(("quota", "cpus"), [("-1\n", None), ("250000\n", 2.5)])
def test_a_quota_of_version_one_is_read(tmp_path: Path, quota: str, cpus: float | None) -> None:
    one = group(tmp_path, cpu_cfs_quota_us=quota, cpu_cfs_period_us="100000\n")

    assert limits.cpu_quota((one,)) == cpus


def test_the_tightest_quota_on_the_way_up_counts(tmp_path: Path) -> None:
    ours = group(tmp_path / "ours", cpu_max="800000 100000")
    above = group(tmp_path / "above", cpu_max="150000 100000")
    top = group(tmp_path / "top", cpu_max="max 100000")

    assert limits.cpu_quota((ours, above, top)) == 1.5


def test_no_control_group_is_no_limit(tmp_path: Path) -> None:
    assert limits.cpu_quota(()) is None
    assert limits.cpu_quota((tmp_path,)) is None
    assert limits.memory_limit(tmp_path) is None
    assert limits.memory((tmp_path,))[0] == HOST


def test_a_memory_limit_of_version_two_counts(tmp_path: Path) -> None:
    one = group(tmp_path, memory_max=f"{GIB}\n", memory_current=f"{GIB // 4}\n")

    assert limits.memory((one,)) == (GIB, GIB - GIB // 4)


def test_where_the_kernel_slows_us_down_is_a_limit_too(tmp_path: Path) -> None:
    one = group(tmp_path, memory_max="max", memory_high=str(GIB), memory_current="0")

    assert limits.memory((one,)) == (GIB, GIB)


def test_a_memory_limit_of_version_one_counts(tmp_path: Path) -> None:
    stat = f"cache 5\ninactive_file 7\ntotal_inactive_file {GIB // 4}\n"
    one = group(tmp_path, memory_limit_in_bytes=str(GIB), memory_usage_in_bytes=str(GIB // 2), memory_stat=stat)

    assert limits.memory((one,)) == (GIB, GIB - GIB // 4)


def test_version_one_tells_of_a_limit_that_is_out_of_sight(tmp_path: Path) -> None:
    one = group(tmp_path, memory_limit_in_bytes="9223372036854771712", memory_stat=f"hierarchical_memory_limit {GIB}")

    assert limits.memory((one,)) == (GIB, GIB)


def test_the_tightest_memory_limit_on_the_way_up_counts_and_so_does_the_least_room(tmp_path: Path) -> None:
    ours = group(tmp_path / "ours", memory_max=str(2 * GIB), memory_current=str(GIB // 4))
    above = group(tmp_path / "above", memory_max=str(3 * GIB), memory_current=str(3 * GIB - GIB // 2))

    assert limits.memory((ours, above)) == (2 * GIB, GIB // 2)


def test_files_that_were_read_once_do_not_count_as_used(tmp_path: Path) -> None:
    stat = f"anon 1\ninactive_file {GIB // 2}\nbroken line\n"
    one = group(tmp_path, memory_max=str(GIB), memory_current=str(GIB), memory_stat=stat)

    assert limits.memory((one,)) == (GIB, GIB // 2)


@pytest.mark.parametrize("limit", ["max", "9223372036854771712", "not a number", ""])
def test_a_limit_beyond_the_machine_is_none(tmp_path: Path, limit: str) -> None:
    one = group(tmp_path, memory_max=limit, memory_current="5")

    assert limits.memory((one,))[0] == HOST


def test_an_exceeded_limit_leaves_nothing(tmp_path: Path) -> None:
    one = group(tmp_path, memory_max=str(GIB), memory_current=str(GIB + 5))

    assert limits.memory((one,)) == (GIB, 0)


def test_swap_is_no_memory() -> None:
    assert limits.memory(())[0] == HOST


def test_the_disk_of_a_folder_still_to_be_made_is_its_parents(tmp_path: Path) -> None:
    disk = limits.disk(tmp_path / "not" / "yet")

    assert disk.path == tmp_path / "not" / "yet"
    assert disk.total == limits.disk(tmp_path).total > disk.free > 0


def test_what_stands_below_a_file_is_looked_for_above_it(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    assert limits.nearest(tmp_path / "file" / "below") == tmp_path / "file"


def test_a_relative_path_ends_at_a_folder_too() -> None:
    assert limits.nearest(Path("absent/folder")).is_dir()

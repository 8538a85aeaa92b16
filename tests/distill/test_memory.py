"""A base model stays packed when the machine, or the container, is too small for it."""

from pathlib import Path

import pytest

from supervisor.distill.memory import free_memory, wants_packing

GIB = 2**30


@pytest.mark.parametrize(
    ("dense", "free", "packed"),
    [(8 * GIB, 16 * GIB, False), (8 * GIB, 10 * GIB, True), (8 * GIB, None, False), (0, 0, False)],
)
def test_a_model_is_packed_when_it_would_leave_too_little(dense: int, free: int | None, packed: bool) -> None:
    assert wants_packing(dense, free) is packed


def written(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


MACHINE = {"proc/meminfo": f"MemTotal: {9 * GIB // 1024} kB\nMemAvailable: {6 * GIB // 1024} kB\n"}
GROUP, OLD = "sys/fs/cgroup", "sys/fs/cgroup/memory"


@pytest.mark.parametrize(
    ("limits", "free"),
    [
        ({}, 6),
        ({f"{GROUP}/memory.max": "max\n", f"{GROUP}/memory.current": "1\n"}, 6),
        ({f"{GROUP}/memory.max": f"{4 * GIB}\n", f"{GROUP}/memory.current": f"{3 * GIB}\n"}, 1),
        (
            {
                f"{GROUP}/memory.max": f"{4 * GIB}",
                f"{GROUP}/memory.current": f"{3 * GIB}",
                f"{GROUP}/memory.stat": f"anon 5\ninactive_file {2 * GIB}\n",
            },
            3,
        ),
        ({f"{OLD}/memory.limit_in_bytes": f"{2 * GIB}", f"{OLD}/memory.usage_in_bytes": "0"}, 2),
    ],
)
def test_what_is_free_is_what_the_tightest_limit_leaves(limits: dict[str, str], free: int, tmp_path: Path) -> None:
    assert free_memory(written(tmp_path, MACHINE | limits)) == free * GIB


def test_a_system_that_tells_nothing_is_no_reason_to_pack(tmp_path: Path) -> None:
    assert free_memory(tmp_path) is None

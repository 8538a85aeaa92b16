"""A restore takes all or leaves all, keeps what was there, and says what it needs."""

import os
import resource
import shutil
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import psutil
import pytest

from supervisor.backup.contents import Wanted
from supervisor.backup.models import missing
from supervisor.backup.restore import restore
from supervisor.backup.swap import FRESH, PLAN, Swap, check_mounts, finish_restore
from supervisor.errors import AlreadyRunning, BackupError
from supervisor.settings.datadir import DataDir
from tests.backup.folders import archive, archived, mark_of, picture, put_back, used, write


def test_a_folder_with_data_is_not_replaced_unasked(tmp_path: Path) -> None:
    content = archive(used(tmp_path / "first"))
    second = used(tmp_path / "second", "second")
    before = picture(second.root)

    with pytest.raises(BackupError, match="add --replace to move it aside"):
        put_back(content, second.root)

    assert picture(second.root) == before


def test_what_was_there_is_moved_aside_whole(tmp_path: Path) -> None:
    first, second = used(tmp_path / "first"), used(tmp_path / "second", "second")
    before = picture(second.root)

    done = put_back(archive(first), second.root, replace=True)

    assert picture(second.root) == picture(first.root)
    assert done.aside is not None
    assert done.aside.parent == second.root
    assert picture(done.aside) == before


def test_what_belongs_to_the_machine_stays_in_place(tmp_path: Path) -> None:
    first, second = used(tmp_path / "first"), used(tmp_path / "second", "second")
    for name in ("ollama/blobs/sha256-1", "packs/cuda/lib.so", "backups/older.tar.zst", "run/base/model.gguf"):
        write(second.root / name, "stays")
    write(first.root / "ollama-tags.json", "of the first store")
    write(second.root / "ollama-tags.json", "of the store that stays")

    put_back(archive(first), second.root, replace=True)

    for name in ("ollama/blobs/sha256-1", "packs/cuda/lib.so", "backups/older.tar.zst", "run/base/model.gguf"):
        assert (second.root / name).read_text() == "stays"
    assert (second.root / "ollama-tags.json").read_text() == "of the store that stays"


def test_models_that_come_along_take_the_place_of_those_that_are_there(tmp_path: Path) -> None:
    first, second = used(tmp_path / "first"), used(tmp_path / "second", "second")
    for data, text in ((first, "first"), (second, "second")):
        write(data.root / "ollama" / "blobs" / "sha256-1", text)
        write(data.root / "ollama-tags.json", text)

    put_back(archive(first, Wanted(models=True)), second.root, replace=True)

    assert (second.root / "ollama-tags.json").read_text() == "first"
    assert (second.root / "ollama" / "blobs" / "sha256-1").read_text() == "first"


def test_a_running_clawlama_is_not_restored_under_its_feet(tmp_path: Path) -> None:
    data = used(tmp_path / "data")
    content = archive(data)

    with data.locked(), pytest.raises(AlreadyRunning, match="in use by a running clawlama"):
        put_back(content, data.root, replace=True)


def test_a_missing_model_is_named_and_one_that_is_there_is_not(tmp_path: Path) -> None:
    _, made = archived(used(tmp_path / "data"))
    (bundled,) = made.manifest.about.models
    wanted = [
        bundled,
        bundled.model_copy(update={"name": "qwen3:8b"}),
        bundled.model_copy(update={"name": "qwen3:4b"}),
        bundled.model_copy(update={"name": str(tmp_path)}),
        bundled.model_copy(update={"name": "/not/here"}),
    ]
    write(tmp_path / "ollama/manifests/registry.ollama.ai/library/qwen3/4b", "{}")

    found = missing(wanted, tmp_path / "ollama")

    assert [one.name for one in found] == ["qwen3:8b", "/not/here"]


def test_a_mount_in_the_way_is_named_before_anything_moves(tmp_path: Path) -> None:
    root, mounted = a_mount_below_a_folder()
    data = DataDir(root)

    with pytest.raises(BackupError, match="is a mount of its own"):
        check_mounts(data.root, {mounted.relative_to(root).parts[0]})


def test_a_mount_in_the_way_costs_nothing(tmp_path: Path) -> None:
    data = used(tmp_path / "data")
    content = archive(data)
    mounting = ["mount", "--bind", str(data.workspace), str(data.workspace)]
    if shutil.which("mount") is None or subprocess.run(mounting, capture_output=True, check=False).returncode != 0:
        pytest.skip("only root may mount")
    try:
        with pytest.raises(BackupError, match="workspace is a mount of its own"):
            put_back(content, data.root, replace=True)

        assert mark_of(data.root) == "first"
        assert not (data.root / ".restore").exists()
    finally:
        subprocess.run(["umount", str(data.workspace)], check=True)


def a_mount_below_a_folder() -> tuple[Path, Path]:
    for one in psutil.disk_partitions(all=True):
        mount = Path(one.mountpoint)
        if len(mount.parts) > 1:
            return mount.parent, mount
    pytest.skip("nothing is mounted here but the root")


def test_a_full_disk_leaves_the_old_data(tmp_path: Path) -> None:
    """As a full disk shows: a write that fails half-way, here by the limit on a file's size."""
    data = used(tmp_path / "data")
    (data.workspace / "large.bin").write_bytes(os.urandom(3_000_000))
    (tmp_path / "a.tar.zst").write_bytes(archive(data))
    before = picture(data.root)

    ended = limited(1_000_000, "restore", str(tmp_path / "a.tar.zst"), "--into", str(data.root), "--replace")

    assert ended.returncode == 1
    assert "cannot be written: File too large; the old data is untouched" in ended.stderr
    assert picture(data.root) == before
    assert not (data.root / ".restore").exists()


def test_a_backup_onto_a_full_disk_keeps_no_part(tmp_path: Path) -> None:
    data = used(tmp_path / "data")
    (data.workspace / "large.bin").write_bytes(os.urandom(3_000_000))

    ended = limited(1_000_000, "backup", str(tmp_path / "a.tar.zst"), "--data", str(data.root))

    assert ended.returncode == 1
    assert "File too large; no part of it was kept" in ended.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]


def limited(size: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "supervisor", *arguments],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", "size=80m", "tmpfs", str(small)]
    if shutil.which("mount") is None or subprocess.run(mounting, capture_output=True, check=False).returncode != 0:
        pytest.skip("only root may mount a small disk")
    try:
        data = used(tmp_path / "data")
        (data.workspace / "large.bin").write_bytes(os.urandom(20_000_000))
        with pytest.raises(BackupError, match=r"16 MiB free|80 MiB free|MiB are needed"):
            put_back(archive(data), small / "data")

        assert [path.name for path in (small / "data").iterdir()] == ["run"]
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_the_next_start_finishes_a_swap_and_only_then_is_the_folder_of_one_piece(tmp_path: Path) -> None:
    first, second = used(tmp_path / "first"), used(tmp_path / "data", "second")
    fresh = second.root / ".restore" / FRESH
    fresh.parent.mkdir()
    (first.root / "run").rename(tmp_path / "not_this")
    first.root.rename(fresh)
    plan = Swap(
        aside="replaced-x",
        out=("journal.db", "secrets", "workspace"),
        into=tuple(path.name for path in fresh.iterdir()),
    )
    (second.root / ".restore" / PLAN).write_text(plan.model_dump_json())
    (second.root / "secrets").rename(second.root / "elsewhere")

    aside = finish_restore(second.root)

    assert mark_of(second.root) == "first"
    assert aside == second.root / "replaced-x"
    assert not (second.root / ".restore").exists()
    assert finish_restore(second.root) is None


def test_what_was_laid_out_and_never_checked_is_dropped(tmp_path: Path) -> None:
    data = used(tmp_path / "data")
    write(data.root / ".restore" / FRESH / "journal.db", "half")
    (data.root / ".restore" / FRESH).chmod(0o500)

    assert finish_restore(data.root) is None

    assert not (data.root / ".restore").exists()
    assert mark_of(data.root) == "first"


def test_a_start_waits_for_no_restore_that_is_at_work(tmp_path: Path) -> None:
    data = used(tmp_path / "data")
    (data.root / ".restore").mkdir()

    with data.locked(), pytest.raises(AlreadyRunning):
        finish_restore(data.root)

    assert (data.root / ".restore").is_dir()


def test_progress_comes_to_the_archive_s_size(tmp_path: Path) -> None:
    content = archive(used(tmp_path / "data"))
    steps: list[int] = []

    restore(BytesIO(content), DataDir(tmp_path / "restored"), steps.append, replace=False)

    assert sum(steps) == len(content)

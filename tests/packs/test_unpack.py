"""Archives that somebody made to do harm, and broken ones."""

import gzip
import tarfile
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio import to_thread

from supervisor.errors import PackError
from supervisor.packs.unpack import Unpacker
from tests.packs.depot import link, locked, tar, wheel, zst

pytestmark = pytest.mark.anyio


def device(name: str) -> tarfile.TarInfo:
    return link(name, "", tarfile.CHRTYPE)


async def unpacked(content: bytes, tmp_path: Path, kind: str, limit: int = 10_000, **other: Any) -> Path:
    """The folder that it was unpacked into."""
    archive, root = tmp_path / "archive", tmp_path / "inside" / "root"
    archive.write_bytes(content)
    root.mkdir(parents=True)
    work = partial(Unpacker(root, limit).unpack, archive, locked("a.whl", content, 0, kind=kind, **other), 0)
    with anyio.fail_after(20):
        await to_thread.run_sync(work)
    return root


HOSTILE = {
    "a step upwards": {"../out": b"x"},
    "two steps, hidden": {"a/../../../out": b"x"},
    "an absolute name": {"/out": b"x"},
    "another system's separators": {"..\\out": b"x"},
    "a link upwards": {"l": link("l", "../..")},
    "an absolute link": {"l": link("l", "/etc")},
    "a hard link upwards": {"l": link("l", "../../archive", tarfile.LNKTYPE)},
    "a device": {"d": device("d")},
    "the same name twice": {"a": b"x", "./a": b"y"},
    "a link and then a file in its place": {"a": link("a", "b"), "./a": b"y"},
}


@pytest.mark.parametrize("members", HOSTILE.values(), ids=HOSTILE)
async def test_a_hostile_archive_is_refused_and_writes_nothing_outside(
    members: dict[str, bytes | tarfile.TarInfo], tmp_path: Path
) -> None:
    with pytest.raises(PackError, match=r"^a\.whl"):
        await unpacked(zst(tar(members)), tmp_path, "tar.zst")

    assert {path.name for path in tmp_path.iterdir()} == {"archive", "inside"}
    assert {path.name for path in (tmp_path / "inside").iterdir()} == {"root"}


@pytest.mark.parametrize("name", ["../out", "/out", "a/../../out", "c:\\out", ".."])
async def test_a_hostile_wheel_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(PackError, match="could lie anywhere; nothing of it is used"):
        await unpacked(wheel({name: b"x"}), tmp_path, "wheel")


@pytest.mark.parametrize("kind", ["wheel", "tar.zst", "tar.gz"])
async def test_more_than_was_written_down_is_refused(kind: str, tmp_path: Path) -> None:
    members = {"a": b"0" * 9000, "b": b"0" * 9000}
    content = {"wheel": wheel(members), "tar.zst": zst(tar(members)), "tar.gz": gzip.compress(tar(members))}[kind]

    with pytest.raises(PackError, match="holds more than it should"):
        await unpacked(content, tmp_path, kind)


@pytest.mark.parametrize("kind", ["wheel", "tar.zst", "tar.gz"])
@pytest.mark.parametrize("content", [b"nothing of the kind", b"\x28\xb5\x2f\xfd\x00"])
async def test_what_is_no_archive_is_told(kind: str, content: bytes, tmp_path: Path) -> None:
    with pytest.raises(PackError, match=r"a\.whl is broken"):
        await unpacked(content, tmp_path, kind)


@pytest.mark.parametrize("kind", ["wheel", "tar.zst", "tar.gz"])
async def test_a_cut_archive_is_told(kind: str, tmp_path: Path) -> None:
    members = {"a": bytes(range(256)) * 30}
    content = {"wheel": wheel(members), "tar.zst": zst(tar(members)), "tar.gz": gzip.compress(tar(members))}[kind]

    with pytest.raises(PackError, match="is broken"):
        await unpacked(content[: len(content) // 2], tmp_path, kind)


async def test_links_inside_programs_and_what_is_left_out(tmp_path: Path) -> None:
    members: dict[str, bytes | tarfile.TarInfo] = {"./bin/run": b"#!", "./lib/a.so.1": b"a", "./big/x": b"x"}
    members["./lib/a.so"] = link("./lib/a.so", "a.so.1")
    members["./lib/same"] = link("./lib/same", "./lib/a.so.1", tarfile.LNKTYPE)

    root = await unpacked(zst(tar(members, programs=("./bin/run",))), tmp_path, "tar.zst", leave_out=("big/",))

    assert (root / "bin/run").stat().st_mode & 0o777 == 0o755
    assert (root / "lib/a.so.1").stat().st_mode & 0o777 == 0o644
    assert [(root / "lib" / name).read_bytes() for name in ("a.so", "same")] == [b"a", b"a"]
    assert not (root / "big").exists()

"""Archives that were damaged, and archives that were made to do harm."""

import json
import subprocess
import tarfile
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from random import Random
from typing import Any

import pytest
import zstandard

from supervisor.backup.manifest import FORMAT, About, Entry, Machine, Manifest
from supervisor.backup.restore import verify
from supervisor.backup.seal import LENGTH, SealedWriter
from supervisor.errors import BackupError, BrokenArchive
from tests.backup.folders import archive, picture, put_back, used

ABOUT = About(
    clawlama="0.1.0",
    created=datetime(2026, 1, 1, tzinfo=UTC),
    journal_schema=None,
    machine=Machine(architecture="x86_64", system="Linux", python="3.11"),
    with_models=False,
    with_logs=False,
    models=(),
    packs=(),
)


Member = tuple[tarfile.TarInfo, bytes]


def check(content: bytes) -> Manifest:
    return verify(BytesIO(content), lambda _read: None)


def member(name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE, **more: Any) -> Member:
    info = tarfile.TarInfo(name)
    info.type, info.size, info.mode = kind, len(content), 0o600
    for key, value in more.items():
        setattr(info, key, value)
    return info, content


def sealed(tar: bytes) -> bytes:
    sink = BytesIO()
    writer = SealedWriter(sink)
    writer.write(zstandard.ZstdCompressor().compress(tar))
    writer.seal()
    return sink.getvalue()


def packed(*members: Member, dialect: int = tarfile.PAX_FORMAT) -> bytes:
    tar = BytesIO()
    with tarfile.TarFile(fileobj=tar, mode="w", format=dialect, errors="surrogateescape") as file:
        for info, content in members:
            file.addfile(info, BytesIO(content))
    return tar.getvalue()


def crafted(*members: Member, entries: tuple[Entry, ...] | None = None, **about: Any) -> bytes:
    """An archive that is right in everything but what these members are; the manifest lists them unless told else."""
    return sealed(packed(*with_lists(*members, entries=entries, **about)))


def with_lists(*members: Member, entries: tuple[Entry, ...] | None = None, **about: Any) -> list[Member]:
    said = json.dumps({**ABOUT.model_dump(mode="json"), **about})
    listed = tuple(map(listing, members)) if entries is None else entries
    manifest = {"about": json.loads(said), "entries": [one.model_dump(exclude_none=True) for one in listed]}
    return [member("about.json", said.encode()), *members, member("manifest.json", json.dumps(manifest).encode())]


def listing(one: Member) -> Entry:
    info, content = one
    kinds: dict[bytes, Any] = {tarfile.DIRTYPE: "folder", tarfile.SYMTYPE: "link"}
    return Entry.model_construct(
        name=info.name.removeprefix("data/"),
        kind=kinds.get(info.type, "file"),
        mode=info.mode,
        mtime_ns=0,
        size=len(content),
        sha256=sha256(content).hexdigest() if info.type == tarfile.REGTYPE else None,
        target=info.linkname or None,
    )


def test_a_crafted_archive_without_a_fault_is_taken(tmp_path: Path) -> None:
    folder = member("data/a", kind=tarfile.DIRTYPE, mode=0o700)
    content = crafted(folder, member("data/a/b", b"text"), member("data/a/c", kind=tarfile.SYMTYPE, linkname="b"))

    put_back(content, tmp_path / "data")

    assert (tmp_path / "data" / "a" / "c").read_text() == "text"


HOSTILE: dict[str, Callable[[], bytes]] = {
    "absolute path": lambda: crafted(member("/etc/passwd", b"x")),
    "absolute below data": lambda: crafted(member("data//etc/passwd", b"x")),
    "steps up": lambda: crafted(member("data/../../x", b"x")),
    "steps up inside": lambda: crafted(member("data/a", kind=tarfile.DIRTYPE), member("data/a/../b", b"x")),
    "outside of data": lambda: crafted(member("other", b"x")),
    "the folder itself": lambda: crafted(member("data", kind=tarfile.DIRTYPE)),
    "a dot": lambda: crafted(member("data/./x", b"x")),
    "control characters": lambda: crafted(member("data/a\nb", b"x")),
    "odd bytes": lambda: sealed(packed(*with_lists(member("data/x\udcff", b"x"), entries=()))),
    "odd bytes, older tar": lambda: sealed(
        packed(*with_lists(member("data/x\udcff", b"x"), entries=()), dialect=tarfile.GNU_FORMAT)
    ),
    "a long name in GNU's way": lambda: sealed(
        packed(*with_lists(member("data/" + "x" * 200, b"x")), dialect=tarfile.GNU_FORMAT)
    ),
    "a part too long": lambda: crafted(member("data/" + "x" * 300, b"x")),
    "a name too long": lambda: crafted(member("data/" + "x/" * 3000, b"x")),
    "link to an absolute path": lambda: crafted(member("data/l", kind=tarfile.SYMTYPE, linkname="/etc")),
    "link out": lambda: crafted(member("data/l", kind=tarfile.SYMTYPE, linkname="../..")),
    "link to nothing": lambda: crafted(member("data/l", kind=tarfile.SYMTYPE, linkname="")),
    "through a link": lambda: crafted(member("data/l", kind=tarfile.SYMTYPE, linkname="a"), member("data/l/x", b"x")),
    "into a file": lambda: crafted(member("data/f", b"x"), member("data/f/x", b"x")),
    "into no folder": lambda: crafted(member("data/a/x", b"x")),
    "hard link": lambda: crafted(member("data/f", b"x"), member("data/l", kind=tarfile.LNKTYPE, linkname="data/f")),
    "device": lambda: crafted(member("data/d", kind=tarfile.CHRTYPE, devmajor=1, devminor=3)),
    "block device": lambda: crafted(member("data/d", kind=tarfile.BLKTYPE)),
    "fifo": lambda: crafted(member("data/d", kind=tarfile.FIFOTYPE)),
    "GNU sparse": lambda: crafted(member("data/s", kind=tarfile.GNUTYPE_SPARSE)),
    "contiguous": lambda: crafted(member("data/s", b"x", kind=tarfile.CONTTYPE)),
    "a kind of its own": lambda: crafted(member("data/s", b"x", kind=b"Z")),
    "pax sparse": lambda: crafted(member("data/s", b"x", pax_headers={"GNU.sparse.map": "0,1"})),
    "pax size that lies": lambda: crafted(member("data/s", b"x", pax_headers={"size": "99999999999"})),
    "pax size not a number": lambda: crafted(member("data/s", b"x", pax_headers={"size": "9" * 5000})),
    "pax path": lambda: crafted(member("data/s", b"x", pax_headers={"path": "data/../../x"})),
    "pax of any kind": lambda: crafted(member("data/s", b"x", pax_headers={"comment": "hello"})),
    "pax too large": lambda: crafted(member("data/s", b"x", pax_headers={"path": "x" * 100_000})),
    "setuid": lambda: crafted(member("data/s", b"x", mode=0o4755)),
    "folder with content": lambda: sealed(folder_with_content()),
    "negative size": lambda: sealed(negative_size()),
    "there twice": lambda: crafted(member("data/s", b"x"), member("data/s", b"x")),
    "not in the list": lambda: crafted(member("data/s", b"x"), entries=()),
    "not in the archive": lambda: crafted(entries=(listing(member("data/s", b"x")),)),
    "listed twice": lambda: crafted(member("data/s", b"x"), entries=(listing(member("data/s", b"x")),) * 2),
    "another size": lambda: crafted(member("data/s", b"x"), entries=(listing(member("data/s", b"xy")),)),
    "other content": lambda: crafted(member("data/s", b"x"), entries=(listing(member("data/s", b"y")),)),
    "another mode": lambda: crafted(member("data/s", b"x"), entries=(listing(member("data/s", b"x", mode=0o644)),)),
    "no list": lambda: sealed(packed(*with_lists(member("data/s", b"x"))[:-1])),
    "two lists": lambda: sealed(packed(*with_lists(), with_lists()[-1])),
    "after the list": lambda: sealed(packed(*with_lists(), member("data/s", b"x"))),
    "no beginning": lambda: sealed(packed(*with_lists(member("data/s", b"x"))[1:])),
    "begins with no object": lambda: sealed(packed(member("about.json", b"[]"))),
    "begins with no JSON": lambda: sealed(packed(member("about.json", b"\xff"))),
    "about too large": lambda: sealed(packed(member("about.json", b" " * 2_000_000))),
    "unknown fields": lambda: crafted(surprise=1),
    "two abouts": lambda: sealed(packed(with_lists()[0], with_lists(clawlama="9")[-1])),
    "nothing": lambda: sealed(b""),
    "no tar": lambda: sealed(b"x" * 2048),
    "more after the end": lambda: sealed(packed(*with_lists()) + b"x"),
    "zeros without end": lambda: sealed(packed(*with_lists()) + bytes(10_000_000)),
    "an endless header chain": lambda: sealed(header_chain()),
    "no zstd": lambda: b"x" * 1000,
    "empty": lambda: b"",
}


def folder_with_content() -> bytes:
    info = tarfile.TarInfo("data/a")
    info.type, info.size = tarfile.DIRTYPE, 512
    block = info.tobuf(tarfile.PAX_FORMAT)
    return packed(with_lists()[0])[:-10240] + block + bytes(512)


def negative_size() -> bytes:
    info = tarfile.TarInfo("about.json")
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    block[124:136] = b"\xff" * 12
    block[148:156] = b"%06o\0 " % tarfile.calc_chksums(bytes(block))[0]  # type: ignore[attr-defined]
    return bytes(block)


def header_chain() -> bytes:
    info = tarfile.TarInfo("././@PaxHeader")
    record = b"12 path=abc\n"
    info.type, info.size = tarfile.XHDTYPE, len(record)
    block = info.tobuf(tarfile.USTAR_FORMAT) + record.ljust(512, b"\0")
    return packed(with_lists()[0])[:-10240] + block * 100_000


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_archive_is_refused_and_leaves_nothing(name: str, tmp_path: Path) -> None:
    content = HOSTILE[name]()
    data = used(tmp_path / "data")
    before = picture(data.root)

    with pytest.raises(BrokenArchive):
        check(content)
    with pytest.raises(BackupError):
        put_back(content, data.root, replace=True)

    assert picture(data.root) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]
    assert not [path for path in data.root.iterdir() if path.name.startswith((".restore", "replaced"))]


@pytest.mark.parametrize(
    ("about", "says"),
    [({"format": FORMAT + 1}, "has format 2"), ({"journal_schema": "9999"}, "has schema 9999")],
)
def test_an_archive_of_a_newer_clawlama_is_refused(about: dict[str, Any], says: str, tmp_path: Path) -> None:
    content = crafted(**about)

    with pytest.raises(BackupError, match=says):
        check(content)
    with pytest.raises(BackupError, match="install that version"):
        put_back(content, tmp_path / "data")


def test_any_flipped_bit_is_found(tmp_path: Path) -> None:
    content = archive(used(tmp_path / "data"))
    random = Random(0)
    places = {*range(64), *range(len(content) - 64, len(content)), *random.sample(range(len(content)), 400)}

    for place in places:
        damaged = bytearray(content)
        damaged[place] ^= 1 << random.randrange(8)
        with pytest.raises(BackupError):
            check(bytes(damaged))


def test_an_archive_that_was_cut_short_is_found_wherever_it_was(tmp_path: Path) -> None:
    content = archive(used(tmp_path / "data"))
    random = Random(0)
    ends = {*range(LENGTH + 2), *range(len(content) - 64, len(content)), *random.sample(range(len(content)), 200)}

    for end in ends:
        with pytest.raises(BrokenArchive):
            check(content[:end])


def test_bytes_after_the_end_are_found(tmp_path: Path) -> None:
    content = archive(used(tmp_path / "data"))

    for more in (b"x", bytes(100), content, content[-LENGTH:]):
        with pytest.raises(BrokenArchive):
            check(content + more)


def test_the_usual_tools_read_an_archive(tmp_path: Path) -> None:
    data = used(tmp_path / "data")
    content = archive(data)
    unsealed = zstandard.ZstdDecompressor().decompressobj().decompress(content)

    with tarfile.open(fileobj=BytesIO(unsealed)) as tar:
        tar.extractall(tmp_path / "by_hand", filter="data")

    assert (tmp_path / "by_hand/data/secrets/api_token").read_text() == "first token"
    manifest = Manifest.model_validate_json((tmp_path / "by_hand/manifest.json").read_bytes())
    assert "workspace/AGENTS.md" in {entry.name for entry in manifest.entries}


def test_zstd_itself_finds_an_archive_in_order(tmp_path: Path) -> None:
    (tmp_path / "x.zst").write_bytes(archive(used(tmp_path / "data")))

    try:
        ended = subprocess.run(["zstd", "-q", "-t", tmp_path / "x.zst"], check=False)
    except FileNotFoundError:
        pytest.skip("zstd is not installed")

    assert ended.returncode == 0

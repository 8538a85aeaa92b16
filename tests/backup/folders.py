"""Data folders as they are after some use, and how two of them compare."""

import os
import sqlite3
from contextlib import closing
from io import BytesIO
from pathlib import Path

import anyio

from supervisor.adapters.store import AdapterStore
from supervisor.backup.contents import Wanted
from supervisor.backup.create import Made, Options, write_archive
from supervisor.backup.restore import Restored, restore
from supervisor.journal.journal import open_journal
from supervisor.settings.datadir import DataDir
from tests.adapters.versions import NAME, made
from tests.journal.samples import completion

QUIET = Options(threads=0)
OPENCLAW_DATABASE = "openclaw/state/state/openclaw.sqlite"


def used(root: Path, mark: str = "first") -> DataDir:
    """With a journal, adapter versions and their link, secrets, OpenClaw's databases and files of a person."""
    data = DataDir(root)
    data.prepare()
    anyio.run(_journal, data, mark)
    adapters = AdapterStore(data.adapters)
    for number in range(3):
        version = made(adapters, content=f"{mark} weights {number}" * 100)
    adapters.promote(NAME, version.manifest.version)
    write(data.secrets / "api_token", f"{mark} token")
    write(data.openclaw / "openclaw.json", f'{{"mark": "{mark}"}}')
    write(data.openclaw / "cache" / "node" / "x", "made again when needed")
    write(data.run / "supervisor.json", "{}")
    write(data.logs / "engine.log", "lines")
    with closing(database(root / OPENCLAW_DATABASE)) as connection:
        connection.execute("INSERT INTO chats (text) VALUES (?)", (mark,))
    write(data.workspace / "AGENTS.md", f"# {mark}", mode=0o644)
    write(data.workspace / "größe 🌍" / ("long " * 40) / "run.sh", "exit 0", mode=0o755)
    (data.workspace / "empty").mkdir()
    (data.workspace / "link").symlink_to("größe 🌍")
    write(root / "clawlama.toml", "lean = 'on'")
    return data


async def _journal(data: DataDir, mark: str) -> None:
    async with open_journal(f"sqlite:///{data.journal}") as journal:
        await journal.add_completion(completion(id=mark))


def write(path: Path, text: str, mode: int = 0o600) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


def database(path: Path) -> sqlite3.Connection:
    """In WAL mode, as OpenClaw's are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path, isolation_level=None, timeout=30)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("CREATE TABLE IF NOT EXISTS chats (id INTEGER PRIMARY KEY, text TEXT)")
    return connection


def archive(data: DataDir, wanted: Wanted | None = None) -> bytes:
    return archived(data, wanted)[0]


def archived(data: DataDir, wanted: Wanted | None = None) -> tuple[bytes, Made]:
    sink = BytesIO()
    made = write_archive(data, sink, Options(wanted or Wanted(), threads=0), lambda _done, _total: None)
    return sink.getvalue(), made


def put_back(content: bytes, root: Path, *, replace: bool = False) -> Restored:
    return restore(BytesIO(content), DataDir(root), lambda _read: None, replace=replace)


Picture = dict[str, tuple[object, ...]]


def picture(root: Path, wanted: Wanted | None = None) -> Picture:
    """Everything worth keeping: kind, mode, time and content, databases by what is in them."""
    takes = (wanted or Wanted()).takes
    found: Picture = {}
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = Path(folder, name)
            short = str(path.relative_to(root))
            if all(takes(part) for part in (short, *map(str, Path(short).parents[:-1]))) and not side_file(path):
                found[short] = look(path)
    return found


def side_file(path: Path) -> bool:
    return path.name.endswith(("-wal", "-shm"))


def look(path: Path) -> tuple[object, ...]:
    status = path.lstat()
    if path.is_symlink():
        return ("link", status.st_mtime_ns, str(path.readlink()))
    mode = status.st_mode & 0o777
    if path.is_dir():
        return ("folder", mode)
    content = path.read_bytes()
    if content.startswith(b"SQLite format 3\0"):
        with closing(sqlite3.connect(path)) as connection:
            return ("database", mode, *connection.iterdump())
    return ("file", mode, status.st_mtime_ns, content)


def mark_of(root: Path) -> str | None:
    """Which of the used folders this is, provided that all of it is of one piece."""
    token = root / "secrets" / "api_token"
    if not token.is_file():
        return None
    mark = token.read_text().removesuffix(" token")
    assert mark in (root / "openclaw" / "openclaw.json").read_text()
    assert mark in (root / "workspace" / "AGENTS.md").read_text()
    with closing(sqlite3.connect(root / OPENCLAW_DATABASE)) as connection:
        assert connection.execute("SELECT text FROM chats").fetchall() == [(mark,)]
    with closing(sqlite3.connect(root / "journal.db")) as connection:
        assert connection.execute("SELECT id FROM completions").fetchall() == [(mark,)]
    store = AdapterStore(root / "adapters")
    store.bind("sha256:0")
    current = store.current(NAME)
    assert current is not None
    assert current.gguf.read_text().startswith(mark)
    return mark

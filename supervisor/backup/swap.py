"""Puts new contents into a data folder in place of the old: all of them, or none, whenever we are killed.

The data folder itself may be a mount point, which nobody can rename, so its entries are, one by one. Before the first,
a plan of it all reaches the disk, and from then on it is carried out, by us or by whoever comes next: until it is, the
old data is on its way out; a plan that is not there means that nothing has been touched.
"""

import os
import shutil
from pathlib import Path

import psutil
from pydantic import BaseModel, ValidationError

from supervisor.adapters.store import sync_folder
from supervisor.backup.contents import PASSING, REPLACED, RESTORING
from supervisor.backup.destination import give_to_owner
from supervisor.errors import BackupError
from supervisor.render.write import write_atomically
from supervisor.settings.datadir import DataDir

FRESH, PLAN = "new", "swap.json"


class Swap(BaseModel, frozen=True, extra="forbid"):
    """Names directly below the data folder."""

    aside: str  # the folder that takes what goes
    out: tuple[str, ...]
    into: tuple[str, ...]


def finish_restore(root: Path) -> Path | None:
    """Carry out a restore that was cut short in its last step, or drop one that had not come so far.

    To be called before anything in the folder is read, settings included; costs one look where there is nothing to do.
    Returns where the old data is now, if a restore was finished. Raises AlreadyRunning while one is at work.
    """
    if not (root / RESTORING).is_dir():
        return None
    data = DataDir(root)
    data.run.mkdir(mode=0o700, exist_ok=True)
    with data.locked():
        return finish(root)


def finish(root: Path) -> Path | None:
    """The same, for whoever holds the folder's lock."""
    home = root / RESTORING
    try:
        plan = Swap.model_validate_json((home / PLAN).read_text())
    except FileNotFoundError:
        plan = None
    except (OSError, ValidationError) as exc:
        raise BackupError(
            f"{home / PLAN}, what a restore was about to do, cannot be read ({exc}); move {home} away and restore again"
        ) from exc
    aside = None if plan is None else _carry_out(root, plan)
    if home.is_dir():
        _remove(home)
    return aside


def fresh_folder(root: Path) -> Path:
    """An empty folder for the new contents, on the data folder's own disk."""
    home = root / RESTORING
    home.mkdir(mode=0o700)
    fresh = home / FRESH
    fresh.mkdir(mode=0o700)
    for path in (home, fresh):
        give_to_owner(path, root)
    return fresh


def swap(root: Path, plan: Swap) -> Path | None:
    """Put what lies in the fresh folder, and on the disk, into place; where the old data is now, if there was any."""
    write_atomically(root / RESTORING / PLAN, plan.model_dump_json())
    sync_folder(root)
    return finish(root)


def check_mounts(root: Path, names: set[str]) -> None:
    """BackupError when something is mounted where these names would move."""
    for mount in psutil.disk_partitions(all=True):
        path = Path(mount.mountpoint)
        if path != root.resolve() and path.is_relative_to(root.resolve()):
            top = path.relative_to(root.resolve()).parts[0]
            if top in names:
                raise BackupError(
                    f"{path} is a mount of its own, so what is restored cannot take its place; "
                    "restore without that mount, or into another folder with --into"
                )


def in_place(root: Path) -> set[str]:
    """Names of the data that lies there now, without what only belongs to the moment or to the machine."""
    return {path.name for path in root.iterdir() if path.name not in PASSING and not path.name.startswith(REPLACED)}


def _carry_out(root: Path, plan: Swap) -> Path | None:
    """Each step is seen to be done or not, so that it can begin again at any of them."""
    fresh, aside = root / RESTORING / FRESH, root / plan.aside
    aside.mkdir(mode=0o700, exist_ok=True)
    give_to_owner(aside, root)
    try:
        for name in sorted({*plan.out, *plan.into}):
            done = name in plan.into and not os.path.lexists(fresh / name)  # then what lies there is the new one
            if not done and os.path.lexists(root / name):
                (root / name).rename(_free(aside / name))
        sync_folder(aside)
        for name in plan.into:
            if os.path.lexists(fresh / name):
                (fresh / name).rename(root / name)
        sync_folder(root)
    except OSError as exc:
        raise BackupError(
            f"the restore stopped at {exc.filename}: {exc.strerror}; nothing is lost, the next start goes on"
        ) from exc
    (root / RESTORING / PLAN).unlink()
    sync_folder(root / RESTORING)
    if any(aside.iterdir()):
        return aside
    aside.rmdir()
    return None


def _free(path: Path) -> Path:
    """A name that is not taken: somebody may have made the thing anew after it was moved."""
    return path if not os.path.lexists(path) else _free(path.with_name(f"{path.name}.later"))


def _remove(home: Path) -> None:
    """Folders may have been laid out with modes that keep even their owner from emptying them."""
    for folder, _, _ in os.walk(home):
        Path(folder).chmod(0o700)
    shutil.rmtree(home)

"""What a worker keeps from one lesson to the next: one loaded base model."""

import gc
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


class Shelf:
    """Holds one thing. Two base models never lie in memory together: the old one goes before the new one is loaded."""

    def __init__(self) -> None:
        self._key: Hashable = None
        self._kept: list[Any] = []

    def take(self, key: Hashable, load: Callable[[], T]) -> T:
        """What was loaded under an equal key, else ``load()``, which is then kept. Nothing is when that fails."""
        if not (self._kept and self._key == key):
            self.drop()
            self._kept.append(load())
            self._key = key
        kept: T = self._kept[0]
        return kept

    def drop(self) -> None:
        self._kept.clear()
        gc.collect()  # modules refer to each other in circles: without this the old one may stay for long


def files_key(path: Path) -> Hashable:
    """Equal as long as no file there was changed or replaced: name, size, time and inode of each."""
    files = sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path]
    seen = ((one, one.stat()) for one in files if one.exists())
    return path, tuple((str(one), stat.st_size, stat.st_mtime_ns, stat.st_ino) for one, stat in seen)

"""What a pack is: the list of files that make one thing work on a GPU, written down before anybody downloads them."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from supervisor.errors import PackError

Gives = Literal["ollama", "torch"]
Kind = Literal["wheel", "tar.zst", "tar.gz", "zip"]


class Locked(BaseModel):
    """Written to JSON by ``pin`` and read back: frozen, unknown fields refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class PackFile(Locked):
    """One download. A wheel names its project: where it lies is asked of the package index when it is needed."""

    name: str = Field(pattern=r"^[\w.+-]+$")
    kind: Kind
    size: int | None = Field(None, gt=0)  # bytes to download
    sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$")
    unpacked: int | None = None  # bytes on disk, without what is left out
    project: str | None = None
    url: str | None = None
    leave_out: tuple[str, ...] = ()  # beginnings of member names


class Pack(Locked):
    """``gives`` ollama: a folder with bin/ollama and lib/ollama in it; torch: a folder for PYTHONPATH."""

    name: str = Field(pattern=r"^[a-z0-9-]+$")
    version: str = Field(pattern=r"^[\w.+-]+$")
    machine: str  # as platform.machine() says it
    gives: Gives
    min_driver: int  # NVIDIA's driver, its first number
    min_compute: float  # compute capability of the devices
    python: str | None = None  # "3.11", where that matters
    files: tuple[PackFile, ...] = Field(min_length=1)

    @property
    def folder(self) -> str:
        return f"{self.name}-{self.version}"

    @property
    def unpinned(self) -> str:
        """The first file of which size or checksum is not known; empty when all are."""
        return next((file.name for file in self.files if not (file.sha256 and file.size)), "")

    @property
    def download(self) -> int:
        return sum(file.size or 0 for file in self.files)

    @property
    def unpacked(self) -> int:
        """Bytes on disk; libraries take about three times their archive where nobody counted."""
        return sum(file.unpacked or 3 * (file.size or 0) for file in self.files)


def shipped() -> Path:
    """The folder of the packs that this version knows, in a wheel or in a checkout."""
    package = Path(__file__).resolve().parent.parent
    wheel = package / "_packs"
    return wheel if wheel.is_dir() else package.parent / "image" / "packs"


def known_packs(folder: Path) -> tuple[Pack, ...]:
    """Raises PackError naming the file that is not in order."""
    return tuple(read_pack(path) for path in sorted(folder.glob("*.json")))


def read_pack(path: Path) -> Pack:
    try:
        return Pack.model_validate_json(path.read_text())
    except (OSError, ValidationError, UnicodeDecodeError) as exc:
        raise PackError(f"{path} does not describe a pack ({exc}); install this version of clawlama again") from exc

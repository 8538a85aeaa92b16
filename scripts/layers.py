"""What the image weighs, layer by layer, compressed as it is pulled and unpacked as it lies on disk.

    python3 scripts/layers.py [IMAGE]        a Markdown table (default: clawlama:test)

Reads ``docker save``. A store that keeps layers unpacked gets them compressed here, as a registry would.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
import zlib
from dataclasses import dataclass
from typing import IO, Any

PIECE = 1 << 20  # bytes read at a time
MB = 1_000_000
GZIP = b"\x1f\x8b"

# What a layer is, by where it goes; the first that occurs in the instruction that made it.
NAMES = {
    "apt-get": "Debian packages: Python, tini, certificates, time zones",
    "/usr/local/lib/": "Ollama: llama-server and CPU libraries",
    "/usr/local/bin/node": "Node",
    "/usr/local/bin/": "Ollama: the server",
    "/opt/openclaw": "OpenClaw",
    "/_packs/": "which GPU packs belong to this Ollama",
    "/site-packages": "our Python packages, the embedded llama.cpp",
    "/opt/clawlama": "PyTorch for the CPU, Transformers, PEFT",
    "rootfs": "our command and health check",
    "versions.json": "list of versions",
    "COPY /out /": "ClawLama with its tiny model",
}


@dataclass(frozen=True)
class Layer:
    """Sizes in bytes."""

    name: str
    compressed: int
    unpacked: int


@dataclass(frozen=True)
class Blob:
    compressed: int
    unpacked: int


def layers_of(image: str) -> list[Layer]:
    """From the bottom up. Raises SystemExit with Docker's words when it cannot be read."""
    with subprocess.Popen(["docker", "save", image], stdout=subprocess.PIPE) as saving:  # noqa: S607 - found on PATH
        assert saving.stdout is not None
        documents, blobs = read_archive(saving.stdout)
    if saving.returncode:
        raise SystemExit(f"docker save {image} ended with {saving.returncode}; is the image there?")
    manifest = documents["manifest.json"][0]
    history = [step for step in documents[manifest["Config"]]["history"] if not step.get("empty_layer")]
    return [
        Layer(name_of(step.get("created_by", "")), blobs[path].compressed, blobs[path].unpacked)
        for step, path in zip(history, manifest["Layers"], strict=True)
    ]


def read_archive(stream: IO[bytes]) -> tuple[dict[str, Any], dict[str, Blob]]:
    """JSON documents and measured layers of an image archive, by path."""
    documents: dict[str, Any] = {}
    blobs: dict[str, Blob] = {}
    links: dict[str, str] = {}
    with tarfile.open(fileobj=stream, mode="r|") as archive:
        for member in archive:
            if member.issym() or member.islnk():
                links[member.name] = member.linkname
            content = archive.extractfile(member) if member.isfile() else None
            if content is None:
                continue
            start = content.read(PIECE)
            if start[:1] in {b"{", b"["}:
                documents[member.name] = json.loads(start + content.read())
            else:
                blobs[member.name] = measure(start, content)
    return documents, blobs


def measure(start: bytes, rest: IO[bytes]) -> Blob:
    """Both sizes of one layer, whichever of the two it came in."""
    gzipped = start.startswith(GZIP)
    converter = zlib.decompressobj(zlib.MAX_WBITS | 16) if gzipped else zlib.compressobj(6, wbits=zlib.MAX_WBITS | 16)
    read = made = 0
    while start:
        read += len(start)
        made += len(converter.decompress(start) if gzipped else converter.compress(start))  # type: ignore[union-attr]
        start = rest.read(PIECE)
    made += len(converter.flush())
    return Blob(compressed=read, unpacked=made) if gzipped else Blob(compressed=made, unpacked=read)


def name_of(instruction: str) -> str:
    return next((name for part, name in NAMES.items() if part in instruction), "Debian bookworm slim")


def table(layers: list[Layer]) -> str:
    """Markdown, in MB of a million bytes."""
    out = io.StringIO()
    out.write("| layer | pulled (gzip), MB | on disk, MB |\n|---|---:|---:|\n")
    for layer in layers:
        out.write(f"| {layer.name} | {layer.compressed / MB:.1f} | {layer.unpacked / MB:.1f} |\n")
    pulled, unpacked = sum(layer.compressed for layer in layers), sum(layer.unpacked for layer in layers)
    out.write(f"| **in all** | **{pulled / MB:.1f}** | **{unpacked / MB:.1f}** |\n")
    return out.getvalue()


if __name__ == "__main__":
    print(table(layers_of(sys.argv[1] if len(sys.argv) > 1 else "clawlama:test")), end="")

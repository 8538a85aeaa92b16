"""Writing a pack down: from what pip and an index say, and from a release that was just downloaded."""

import hashlib
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from supervisor.packs.pack import read_pack, shipped
from supervisor.packs.pin import pin
from tests.packs.depot import Depot, link, noise, tar, wheel, zst

PIN_OLLAMA = shipped().parent / "build" / "pin_ollama.py"


def released(shop: Depot, name: str, version: str, *needs: str, tag: str = "manylinux_2_28_x86_64") -> str:
    """A wheel that pip takes for real, on the depot's index."""
    module = name.replace("-", "_")
    lines = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}", *(f"Requires-Dist: {one}" for one in needs)]
    info = f"{module}-{version}.dist-info"
    file = f"{module}-{version}-py3-none-{tag}.whl"
    shop.files[file] = wheel(
        {
            f"{module}/lib.so": noise(30_000),
            f"{module}/include/a.h": noise(500),
            f"{info}/METADATA": "\n".join(lines).encode() + b"\n",
            f"{info}/WHEEL": f"Wheel-Version: 1.0\nTag: py3-none-{tag}\n".encode(),
            f"{info}/RECORD": b"",
        }
    )
    return file


def test_torch_is_written_down_with_what_it_needs_of_cuda(shop: Depot, tmp_path: Path) -> None:
    torch = released(shop, "torch", "2.0", "jinja2", 'nvidia-x==1.5; platform_system == "Linux"')
    cuda = released(shop, "nvidia-x", "1.5")
    released(shop, "jinja2", "3.0", tag="any")
    shop.sent = 0

    pin("2.0", index=f"{shop.url}/simple", into=tmp_path)

    pack = read_pack(tmp_path / "torch-cuda.x86_64.json")
    assert {file.name: file.project for file in pack.files} == {torch: "torch", cuda: "nvidia-x"}
    for file in pack.files:
        content = shop.files[file.name]
        assert (file.size, file.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert "127.0.0.1" not in pack.model_dump_json()


def test_ollama_is_written_down_from_a_release_that_was_checked(tmp_path: Path) -> None:
    archive = tmp_path / "ollama-linux-amd64.tar.zst"
    members: dict[str, bytes | tarfile.TarInfo] = {
        "./bin/ollama": noise(1000),
        "./lib/ollama/llama-server": noise(200),
        "./lib/ollama/libggml.so": link("./lib/ollama/libggml.so", "libggml.so.0"),
        "./lib/ollama/cuda_v12/libggml-cuda.so": noise(30),
        "./lib/ollama/cuda_v13/libggml-cuda.so": noise(4),
        "./lib/ollama/vulkan/libggml-vulkan.so": noise(50_000),
    }
    archive.write_bytes(zst(tar(members)))
    checksum = hashlib.sha256(archive.read_bytes()).hexdigest()
    sums = tmp_path / "sha256sum.txt"
    sums.write_text(f"{checksum}  ./{archive.name}\n{'0' * 64}  ./ollama-linux-arm64.tar.zst\n")

    arguments = [PIN_OLLAMA, shipped(), "0.99.1", sums, archive, tmp_path / "out"]
    subprocess.run([sys.executable, *map(str, arguments)], check=True, timeout=60)

    packs = {path.name: read_pack(path) for path in (tmp_path / "out").iterdir()}
    assert sorted(packs) == ["ollama-cuda12.x86_64.json", "ollama-cuda13.x86_64.json"]
    assert {pack.unpacked for pack in packs.values()} == {1230, 1204}
    for pack in packs.values():
        (file,) = pack.files
        assert (pack.version, pack.unpinned) == ("0.99.1", "")
        assert (file.sha256, file.size) == (checksum, archive.stat().st_size)
        assert str(file.url).endswith("/releases/download/v0.99.1/ollama-linux-amd64.tar.zst")


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_both_generations_of_drivers_are_described_for(machine: str) -> None:
    packs = [read_pack(shipped() / f"ollama-{name}.{machine}.json") for name in ("cuda12", "cuda13")]

    assert [pack.min_driver for pack in packs] == [531, 580]
    assert {pack.unpinned for pack in packs} == {packs[0].files[0].name}

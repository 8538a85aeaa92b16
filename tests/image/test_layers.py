"""The image stays small: what a person downloads is measured, layer by layer."""

import io
import json
import tarfile
import zlib
from collections.abc import Mapping

import pytest

from scripts.layers import Blob, Layer, layers_of, read_archive, table

LIMIT = 450_000_000  # bytes of gzip, all layers, PyTorch included
OLLAMA = 40_000_000  # bytes that a release's CPU part may take; the stand-in takes none


def archive(files: Mapping[str, bytes]) -> io.BytesIO:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as made:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            made.addfile(member, io.BytesIO(content))
    out.seek(0)
    return out


@pytest.mark.image
def test_the_image_is_smaller_than_450_megabytes(image: str) -> None:
    layers = layers_of(image)

    assert sum(layer.compressed for layer in layers) < LIMIT - OLLAMA, table(layers)


def test_a_layer_weighs_the_same_packed_or_unpacked() -> None:
    content = b"x" * 5_000_000
    packed = zlib.compress(content, 6, wbits=zlib.MAX_WBITS | 16)

    _, blobs = read_archive(archive({"packed": packed, "unpacked": content, "manifest.json": json.dumps([]).encode()}))

    assert blobs["packed"] == blobs["unpacked"] == Blob(compressed=len(packed), unpacked=len(content))


def test_the_table_ends_with_the_sum() -> None:
    text = table([Layer("one", 1_000_000, 3_000_000), Layer("two", 500_000, 1_000_000)])

    assert text.splitlines()[-1] == "| **in all** | **1.5** | **4.0** |"

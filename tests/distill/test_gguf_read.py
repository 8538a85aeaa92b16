"""Our quick reader sees what the gguf package sees."""

from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Kind

from supervisor.distill.gguf_read import GgufModel
from supervisor.errors import GgufError
from tests.distill import gguf_files

TINY_CHAT = Path(__file__).parents[2] / "models/tiny-chat/tiny-chat.gguf"


def test_metadata_and_places_are_those_of_the_gguf_package() -> None:
    theirs, ours = gguf.GGUFReader(TINY_CHAT), GgufModel(TINY_CHAT)

    for key, field in theirs.fields.items():
        if not key.startswith("GGUF."):
            assert ours.get(key) == field.contents()
    assert [(tensor.begin, tensor.size, tensor.shape[::-1], tensor.kind) for tensor in ours.tensors.values()] == [
        (tensor.data_offset, tensor.n_bytes, tuple(tensor.shape), tensor.tensor_type) for tensor in theirs.tensors
    ]
    assert len(ours.metadata) == theirs.tensors[0].field.offset


@pytest.mark.parametrize("kind", [Kind.F32, Kind.F16, Kind.BF16, Kind.Q8_0, Kind.Q4_0, Kind.Q5_1])
def test_values_are_those_of_the_gguf_package(kind: Kind, tmp_path: Path) -> None:
    gguf_files.restored(TINY_CHAT, tmp_path / "model.gguf", kind)

    ours = GgufModel(tmp_path / "model.gguf")

    for name, values in gguf_files.values(tmp_path / "model.gguf").items():
        assert np.array_equal(ours.load(name), values)
        assert np.array_equal(ours.rows(name, np.array([0])), values.reshape(-1, values.shape[-1])[:1])


@pytest.mark.parametrize("size", [0, 3, 20, 500, 60_000, 500_000])
def test_a_file_that_ends_early_is_refused(size: int, tmp_path: Path) -> None:
    (tmp_path / "cut.gguf").write_bytes(TINY_CHAT.read_bytes()[:size])

    with pytest.raises(GgufError, match=r"cut\.gguf cannot be read as GGUF"):
        GgufModel(tmp_path / "cut.gguf")


def test_a_damaged_beginning_is_never_any_other_error(tmp_path: Path) -> None:
    whole = bytearray(TINY_CHAT.read_bytes())
    for place in range(0, 3000, 7):
        damaged = whole[:70_000].copy()
        damaged[place] ^= 0xFF
        (tmp_path / "damaged.gguf").write_bytes(damaged)
        with pytest.raises(GgufError):
            GgufModel(tmp_path / "damaged.gguf")

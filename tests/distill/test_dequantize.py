"""Blocks become the numbers that the gguf package makes of them."""

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Kind

from supervisor.distill.dequantize import PLAIN, UNPACKED, VALUES, dequantize, length, width
from supervisor.distill.fast import kernels
from supervisor.errors import GgufError

KINDS = [*PLAIN, *UNPACKED]


@pytest.fixture(params=["compiled", "in PyTorch's words"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param != "compiled":
        monkeypatch.setattr(kernels, "library", lambda _dtype: None)
    elif kernels.kind() is None:
        pytest.skip("no compiler was at hand when this checkout was set up")


def random_blocks(kind: Kind, rows: int, columns: int) -> torch.Tensor:
    """Any bytes but those of halves and floats that are no numbers: none above 0x77."""
    generator = torch.Generator().manual_seed(int(kind))
    return torch.randint(0, 0x78, (rows, columns // length(kind) * width(kind)), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("kind", KINDS)
def test_values_are_exactly_those_of_the_gguf_package(kind: Kind) -> None:
    blocks = random_blocks(kind, 7, 1024)

    values = dequantize(blocks, kind, torch.float32)

    assert np.array_equal(values.numpy(), gguf.quants.dequantize(blocks.numpy(), kind))


@pytest.mark.parametrize("kind", KINDS)
def test_every_bit_of_a_block_counts(kind: Kind) -> None:
    """Real quantised numbers use the upper bits too, which random blocks here leave zero."""
    blocks = random_blocks(kind, 1, 256)
    blocks[:, 20 if width(kind) > 100 else 2 :] |= 0x80
    if kind == Kind.Q6_K:
        blocks[:, -2:] &= 0x7F

    values = dequantize(blocks, kind, torch.float32)

    assert np.array_equal(values.numpy(), gguf.quants.dequantize(blocks.numpy(), kind))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_precisions_are_the_same_values_rounded_once(kind: Kind, dtype: torch.dtype) -> None:
    blocks = random_blocks(kind, 3, 512)

    values = dequantize(blocks, kind, dtype)

    assert torch.equal(values, torch.from_numpy(gguf.quants.dequantize(blocks.numpy(), kind)).to(dtype))


@pytest.mark.parametrize("kind", [Kind.Q8_0, Kind.Q4_K])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_what_takes_several_passes_is_written_whole_into_the_given_place(kind: Kind, dtype: torch.dtype) -> None:
    blocks = random_blocks(kind, 3 * VALUES * torch.get_num_threads() // 256 + 1, 256)
    place = torch.zeros(len(blocks) + 2, 256, dtype=dtype)

    written = dequantize(blocks, kind, dtype, out=place[1:-1])

    assert written.data_ptr() == place[1].data_ptr()
    assert torch.equal(place[1:-1], torch.from_numpy(gguf.quants.dequantize(blocks.numpy(), kind)).to(dtype))
    assert not place[0].any()
    assert not place[-1].any()


def test_every_scale_that_a_half_can_be() -> None:
    scales = torch.arange(1 << 16, dtype=torch.int32).to(torch.int16)
    blocks = torch.cat([scales.view(-1, 1).view(torch.uint8), torch.full((1 << 16, 32), 1, dtype=torch.uint8)], dim=1)

    values = dequantize(blocks, Kind.Q8_0, torch.float32)

    expected = scales.view(torch.float16).float()[:, None].expand(-1, 32)
    torch.testing.assert_close(values, expected, rtol=0, atol=0, equal_nan=True)


def test_a_type_that_is_not_known_is_refused_by_name() -> None:
    with pytest.raises(GgufError, match="stored as IQ2_XS, which cannot be read; lessons know F32, BF16, F16, Q8_0"):
        dequantize(torch.zeros(1, 74, dtype=torch.uint8), Kind.IQ2_XS, torch.float32)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("kind", KINDS)
def test_a_gpu_makes_the_same_numbers(kind: Kind) -> None:
    blocks = random_blocks(kind, 70, 1024)

    values = dequantize(blocks.cuda(), kind, torch.bfloat16)

    assert torch.equal(values.cpu(), dequantize(blocks, kind, torch.bfloat16))

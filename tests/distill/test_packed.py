"""A layer that unpacks its weights for each matmul computes what a dense one does."""

import gguf
import pytest
import torch
from gguf import GGMLQuantizationType as Kind
from peft import LoraConfig, get_peft_model
from torch import nn

from supervisor.distill.gguf_model import interleave
from supervisor.distill.packed import Packed, PackedEmbedding, PackedLinear

KINDS = [Kind.F32, Kind.F16, Kind.BF16, Kind.Q8_0, Kind.Q4_0]


def matrix(kind: Kind, rows: int = 12, columns: int = 64) -> Packed:
    values = torch.randn(rows, columns, generator=torch.Generator().manual_seed(rows))
    return Packed(torch.from_numpy(gguf.quants.quantize(values.numpy(), kind)).view(torch.uint8), kind)


def dense(packed: Packed, bias: torch.Tensor | None = None) -> nn.Linear:
    layer = nn.Linear(packed.shape[1], packed.shape[0], bias=bias is not None)
    layer.weight.data = packed.values(torch.float32)
    if bias is not None:
        layer.bias.data = bias.clone()
    return layer.requires_grad_(False)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("with_bias", [False, True])
def test_output_and_input_gradient_are_those_of_the_dense_layer(kind: Kind, with_bias: bool) -> None:
    packed = matrix(kind)
    bias = torch.randn(12) if with_bias else None
    ours = PackedLinear(packed, torch.float32, None if bias is None else nn.Parameter(bias, requires_grad=False))
    x, y = (torch.randn(2, 5, 64, generator=torch.Generator().manual_seed(1)).requires_grad_() for _ in range(2))

    result, wanted = ours(x), dense(packed, bias)(y)
    result.square().sum().backward()
    wanted.square().sum().backward()

    torch.testing.assert_close(result, wanted)
    assert x.grad is not None
    torch.testing.assert_close(x.grad, y.grad)


def test_peft_wraps_it_and_lora_gets_the_same_gradients() -> None:
    packed = matrix(Kind.Q8_0)
    grads = []
    for layer in (PackedLinear(packed, torch.float32), dense(packed)):
        torch.manual_seed(3)
        model = get_peft_model(nn.Sequential(layer), LoraConfig(r=4, target_modules=["0"], init_lora_weights=False))
        model(torch.ones(2, 64)).square().sum().backward()
        grads.append({name: weight.grad for name, weight in model.named_parameters() if weight.requires_grad})

    assert set(grads[0]) == set(grads[1])
    for name, grad in grads[0].items():
        torch.testing.assert_close(grad, grads[1][name])


def test_rows_that_the_file_alternates_come_back_in_order() -> None:
    rows = torch.arange(8.0)[:, None].repeat(1, 32)
    stored = torch.from_numpy(interleave(rows.numpy(), 2)).view(torch.uint8)

    assert stored.view(torch.float32)[:, 0].tolist() == [0, 2, 1, 3, 4, 6, 5, 7]
    assert torch.equal(Packed(stored, Kind.F32, turned=2).values(torch.float32), rows)


@pytest.mark.parametrize("scale", [None, 8.0])
def test_an_embedding_unpacks_only_the_rows_that_it_is_asked_for(scale: float | None) -> None:
    packed = matrix(Kind.Q4_0)
    ids = torch.tensor([[3, 0, 3], [11, 5, 1]])

    rows = PackedEmbedding(packed, torch.bfloat16, scale)(ids)

    assert torch.equal(rows, packed.values(torch.bfloat16)[ids] * (scale or 1.0))


def test_a_model_of_packed_layers_moves_as_any_other_and_shares_what_is_tied() -> None:
    packed = matrix(Kind.Q8_0)
    embedding, head = PackedEmbedding(packed, torch.float32), PackedLinear(packed, torch.float32)

    moved = nn.Sequential(embedding, head).to(torch.device("meta"))

    assert embedding.packed.stored is head.packed.stored
    assert head.packed.stored.is_meta
    assert sum(weight.numel() for weight in moved.parameters()) == 0

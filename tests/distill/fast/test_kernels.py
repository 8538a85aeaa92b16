"""The compiled part gives what the same modules give in PyTorch's words, for each build that this processor runs."""

from collections.abc import Callable
from pathlib import Path

import gguf
import pytest
import torch
from gguf import GGMLQuantizationType as Kind
from torch import Tensor

from supervisor.distill.dequantize import COMPILED, dequantize
from supervisor.distill.fast import gate, kernels, norm, products
from supervisor.distill.fast.head import Head
from supervisor.distill.fast.place import HeadNorm, Place, placed, placed_backward
from supervisor.distill.fast.tree import pack
from supervisor.distill.fast.weights import Whole
from tests.distill.fast.pupils import apart, outcome, pair, replies
from tests.distill.lessons import training
from tests.distill.test_dequantize import random_blocks

Words = Callable[[], None]


@pytest.fixture
def words(monkeypatch: pytest.MonkeyPatch) -> Words:
    """Call it, and from then on there is no compiled part."""
    return lambda: monkeypatch.setattr(kernels, "library", lambda _dtype: None)


@pytest.fixture(params=[torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def dtype(request: pytest.FixtureRequest, build: str) -> torch.dtype:
    assert kernels.kind() == build
    found: torch.dtype = request.param
    assert kernels.compiled(torch.zeros(1, dtype=found)) is not None
    return found


def same(ours: Tensor, theirs: Tensor) -> None:
    """Up to rounding: one last place of bfloat16, a few of float32."""
    assert ours.dtype == theirs.dtype
    half = ours.dtype == torch.bfloat16
    torch.testing.assert_close(ours, theirs, rtol=1.6e-2 if half else 2e-5, atol=1e-2 if half else 2e-5)


def both(make: Callable[[], tuple[Tensor, ...]], words: Words) -> None:
    ours = make()
    words()
    for one, other in zip(ours, make(), strict=True):
        same(one, other)


def test_norms(dtype: torch.dtype, words: Words) -> None:
    torch.manual_seed(0)
    x, added, weight = torch.randn(37, 72), torch.randn(37, 72).to(dtype), torch.randn(72).to(dtype)

    def make() -> tuple[Tensor, ...]:
        onto = torch.ones(37, 72)
        rounded = norm.rms_norm_backward(added, x, weight, 1e-5, onto=onto)
        return (norm.rms_norm(x, weight, 1e-5), *norm.add_and_norm(x, added, weight, 1e-5), onto.clone(), rounded)

    both(make, words)


def test_a_recomputed_norm_is_the_same_to_the_bit(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    weight = torch.randn(1000).to(dtype)

    stream, normed = norm.add_and_norm(torch.randn(9, 1000), torch.randn(9, 1000).to(dtype), weight, 1e-6)

    assert torch.equal(norm.rms_norm(stream, weight, 1e-6), normed)


@pytest.mark.parametrize("normed", [False, True])
def test_heads_in_their_places(normed: bool, dtype: torch.dtype, words: Words) -> None:
    torch.manual_seed(0)
    tree = pack([list(range(20)), [*range(7), *range(40, 60)]])
    rows, heads, key_heads, width = len(tree.tokens), 6, 2, 24
    qkv = torch.randn(rows, heads + 2 * key_heads, width).to(dtype)
    for_q, for_k = torch.randn(2, width).to(dtype)
    weights = HeadNorm(for_q, for_k, 1e-6) if normed else HeadNorm(None, None, 1e-6)
    place = Place.of(tree, torch.rand(width // 2), heads // key_heads)
    dq, (dk, dv) = torch.randn(rows, heads, width).to(dtype), torch.randn(2, key_heads, rows, width)

    both(lambda: (*placed(qkv, weights, place), placed_backward(dq, dk, dv, qkv, weights, place)), words)


@pytest.mark.parametrize(("size", "before"), [(1, [3]), (17, [30, 2]), (300, [])])
def test_softmax(size: int, before: list[int], dtype: torch.dtype, words: Words) -> None:
    torch.manual_seed(0)
    parts = [torch.randn(2, size * 3, columns).mul(30).to(dtype) for columns in (*before, 4 + size)]

    def make() -> tuple[Tensor, ...]:
        weights, lse = [part.clone() for part in parts], torch.zeros(size, 6)
        products.softmax(weights, size, 0.1, lse)
        return (*weights, lse)

    *weights, _ = make()
    sums = torch.stack([part.float().sum(-1) for part in weights]).sum(0)
    torch.testing.assert_close(sums, torch.ones(2, size * 3), rtol=1e-2, atol=1e-2)
    assert not weights[-1][:, :3, 5:].any(), "the first token saw later ones"
    both(make, words)


@pytest.mark.parametrize(("own", "keys"), [(0, 5), (7, 7), (20, 33)])
def test_softmax_backward(own: int, keys: int, dtype: torch.dtype, words: Words) -> None:
    torch.manual_seed(0)
    queries = 3 * (own or 4)
    scores, grad = torch.randn(2, 2, keys, queries).to(dtype)
    lse, mean = torch.randn(2, 2, queries)

    def make() -> tuple[Tensor, ...]:
        weights, back = scores.clone(), grad.clone()
        products.softmax_backward(weights, back, lse + 2, mean, 0.1, own)
        return weights, back

    weights, back = make()
    if own:
        assert not weights[:, -1, :-3].any(), "the last key is the last token's"
        assert weights[:, -1, -3:].all()
        assert not back[:, -1, :-3].any()
    both(make, words)


def test_sums(dtype: torch.dtype, words: Words) -> None:
    torch.manual_seed(0)
    left, right = torch.randn(2, 5, 3, 40).to(dtype)

    def make() -> tuple[Tensor, ...]:
        sums = torch.ones(3, 9, 40)
        products.add_to(left.transpose(0, 1).contiguous(), sums[:, 2:7])
        return products.dots(left, right), sums

    both(make, words)


def test_gates(dtype: torch.dtype, words: Words) -> None:
    torch.manual_seed(0)
    gate_up, grad = torch.randn(11, 2 * 33).mul(8).to(dtype), torch.randn(11, 33).to(dtype)

    both(lambda: (gate.gated(gate_up), gate.gated_backward(grad, gate_up.clone())), words)


def test_the_vocabulary(dtype: torch.dtype, words: Words) -> None:
    torch.manual_seed(0)
    head = Head(5000, Whole(torch.randn(5000, 32).to(dtype)).rows)
    hidden, ids = torch.randn(9, 32).to(dtype), torch.randint(0, 5000, (9, 4))

    def make() -> tuple[Tensor, ...]:
        values, best = head.top(hidden, 30)
        assert torch.equal(values, head.log_probs(hidden, best)), "not the logits of these tokens"
        return (values, *head.log_probs_and_rest(hidden, ids))

    both(make, words)


@pytest.mark.parametrize("kind", sorted(COMPILED))
def test_blocks_become_the_numbers_that_the_gguf_package_makes_of_them(kind: Kind, dtype: torch.dtype) -> None:
    blocks = random_blocks(kind, 5, 1024)

    values = dequantize(blocks, kind, dtype)

    assert torch.equal(values, torch.from_numpy(gguf.quants.dequantize(blocks.numpy(), kind)).to(dtype))


def test_what_is_not_a_number_stays_so(dtype: torch.dtype) -> None:
    """A lesson that went wrong must not look right."""
    broken = torch.full((2, 64), torch.nan)
    scores, lse = broken.to(dtype, copy=True).view(2, 8, 8), torch.zeros(8, 2)
    products.softmax([scores], 8, 1.0, lse)

    assert norm.rms_norm(broken, torch.ones(64, dtype=dtype), 1e-6).isnan().all()
    assert gate.gated(broken.to(dtype)).isnan().all()
    assert scores[:, :, 0].isnan().all()
    assert lse.isnan().all()
    assert (
        Head(64, Whole(torch.ones(64, 64, dtype=dtype)).rows)
        .log_probs(broken.to(dtype), torch.zeros(2, 1, dtype=torch.long))
        .isnan()
        .all()
    )


def test_without_it_a_lesson_learns_the_same(build: str, words: Words, tmp_path: Path) -> None:
    pupils = pair("qwen3", tmp_path)

    ours = outcome(pupils.fast(), replies(4), training(alpha=0.3, kl_reg_weight=0.2))
    words()
    plain = outcome(pupils.fast(), replies(4), training(alpha=0.3, kl_reg_weight=0.2))

    assert apart(ours, plain) < 1e-4
    assert ours.losses == pytest.approx(plain.losses, rel=1e-4)

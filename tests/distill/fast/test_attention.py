"""All ways to attend are what the formula says, forward and backward. A GPU's kernel runs here as the CPU's."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from supervisor.distill.fast import attention, decoder, flash, fused, products
from supervisor.distill.fast.kernels import FLASH
from supervisor.distill.fast.place import of_node, of_rows
from supervisor.distill.fast.tree import Tree, pack
from tests.distill.fast.pupils import WIDE, outcome, pair, replies, total_error
from tests.distill.lessons import training

Heads = tuple[int, int, int]  # key heads, heads that read one, their width
Gradients = tuple[Tensor, Tensor, Tensor, Tensor]  # the result; then of q, k, v
Way = Callable[[Tree, Tensor, Tensor, Tensor, Tensor], Gradients]

SHARED = list(range(1000, 1070))
TREES: dict[str, Sequence[Sequence[int]]] = {
    "one token": [[1]],
    "a chain of nodes": [list(range(300))],
    "branches": [[*SHARED, 1], [*SHARED, *range(2, 40)], [*SHARED, *range(2, 9), *range(300, 345)]],
    "apart": [list(range(33)), list(range(50, 81))],
}


def by_node(rows: Tensor, tree: Tree, key_heads: int) -> Tensor:
    """(N, Hk*G, D), row after row, as queries lie."""
    out = torch.empty_like(rows)
    for node in tree.nodes:
        of_node(out, node, key_heads).copy_(of_rows(rows, node, key_heads))
    return out


def by_row(lying: Tensor, tree: Tree, key_heads: int) -> Tensor:
    out = torch.empty_like(lying)
    for node in tree.nodes:
        of_rows(out, node, key_heads).copy_(of_node(lying, node, key_heads))
    return out


def plainly(q: Tensor, k: Tensor, v: Tensor, tree: Tree) -> Tensor:
    """One query after the other, over the keys that it may see; q row after row."""
    group = q.shape[1] // len(k)
    found = []
    for node in tree.nodes:
        for row in range(node.begin, node.end):
            seen = [one for begin, end in (*node.path, (node.begin, row + 1)) for one in range(begin, end)]
            keys, values = (part[:, seen].repeat_interleave(group, 0) for part in (k, v))  # (H, S, D)
            weights = torch.softmax(torch.einsum("hd,hsd->hs", q[row], keys) * q.shape[-1] ** -0.5, dim=-1)
            found.append(torch.einsum("hs,hsd->hd", weights, values))
    return torch.stack(found)


def numbers(tree: Tree, heads: Heads, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """q and a gradient, row after row, k and v."""
    torch.manual_seed(0)
    key_heads, group, width = heads
    rows = len(tree.tokens)
    q, grad = torch.randn(2, rows, key_heads * group, width).to(dtype)
    k, v = torch.randn(2, key_heads, rows, width).to(dtype)
    return q * 3, grad, k, v


def exactly(tree: Tree, q: Tensor, grad: Tensor, k: Tensor, v: Tensor) -> Gradients:
    asked, keys, values = (part.double().requires_grad_() for part in (q, k, v))
    found = plainly(asked, keys, values, tree)
    to_q, to_k, to_v = torch.autograd.grad(found, [asked, keys, values], grad.double())
    return found.detach(), to_q, to_k, to_v


@torch.no_grad()
def by_products(tree: Tree, q: Tensor, grad: Tensor, k: Tensor, v: Tensor) -> Gradients:
    asked = by_node(q, tree, len(k))
    found, lse = products.attend(asked, k, v, tree)
    to_q, to_k, to_v = products.attend_backward(grad, asked, k, v, found, lse, tree)
    return found, by_row(to_q, tree, len(k)), to_k, to_v


@torch.no_grad()
def by_fused_kernel(tree: Tree, q: Tensor, grad: Tensor, k: Tensor, v: Tensor) -> Gradients:
    asked = by_node(q, tree, len(k))
    to_q, to_k, to_v = fused.attend_backward(grad, asked, k, v, tree)
    return fused.attend(asked, k, v, tree), by_row(to_q, tree, len(k)), to_k, to_v


@torch.no_grad()
def by_flash(tree: Tree, q: Tensor, grad: Tensor, k: Tensor, v: Tensor) -> Gradients:
    asked = by_node(q, tree, len(k))
    call = flash.able(asked)
    assert call is not None
    found, lse = flash.attend(call, asked, k, v, tree)
    to_q, to_k, to_v = flash.attend_backward(call, grad, asked, k, v, found, lse, tree)
    return found, by_row(to_q, tree, len(k)), to_k, to_v


@pytest.mark.parametrize("way", [by_products, by_fused_kernel])
@pytest.mark.parametrize("heads", [(2, 3, 24), (3, 1, 16), (1, 4, 64)])
@pytest.mark.parametrize("sequences", TREES.values(), ids=TREES)
def test_attention(way: Way, heads: Heads, sequences: Sequence[Sequence[int]]) -> None:
    tree = pack(sequences)
    given = numbers(tree, heads, torch.float32)

    for ours, theirs in zip(way(tree, *given), exactly(tree, *given), strict=True):
        torch.testing.assert_close(ours, theirs.float(), rtol=1e-4, atol=1e-5)


@pytest.fixture(params=[torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def dtype(request: pytest.FixtureRequest, build: str) -> torch.dtype:
    """What ``flash`` computes in here."""
    found: torch.dtype = request.param
    if build not in FLASH[found]:
        pytest.skip("this build is without it")
    return found


@pytest.mark.parametrize("heads", [(2, 3, 32), (3, 1, 96), (1, 4, 64), (2, 2, 128)])
@pytest.mark.parametrize("sequences", TREES.values(), ids=TREES)
def test_flash_loses_no_more_than_products(
    heads: Heads, sequences: Sequence[Sequence[int]], dtype: torch.dtype
) -> None:
    tree = pack(sequences)
    given = numbers(tree, heads, dtype)
    exact = exactly(tree, *given)

    ours, theirs = by_flash(tree, *given), by_products(tree, *given)

    for one, other, wanted in zip(ours, theirs, exact, strict=True):
        lost, usual = ((part.double() - wanted).norm() / wanted.norm().clamp(min=1) for part in (one, other))
        limit = 8e-3 if dtype == torch.bfloat16 else 1e-5
        assert lost < max(limit, 1.5 * usual), (float(lost), float(usual))


def test_flash_gives_the_same_bits_however_many_threads_there_are(dtype: torch.dtype) -> None:
    tree = pack(TREES["branches"])
    given = numbers(tree, (3, 2, 64), dtype)
    found = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            found.append(by_flash(tree, *given))
    finally:
        torch.set_num_threads(before)

    assert all(torch.equal(one, other) for more in found[1:] for one, other in zip(found[0], more, strict=True))


def test_what_is_not_a_number_stays_so_in_flash(dtype: torch.dtype) -> None:
    tree = pack([list(range(40))])
    q, grad, k, v = numbers(tree, (1, 1, 32), dtype)
    k[0, 7] = torch.nan

    found, to_q, *_ = by_flash(tree, q, grad, k, v)

    assert found[:7].isfinite().all()
    assert found[7:].isnan().all()
    assert to_q[7:].isnan().all()


@pytest.mark.parametrize("way", ["products", "fused", "flash"])
@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 1e-4), (torch.bfloat16, 2e-2)], ids=str)
def test_a_lesson_by_each_way(
    way: str, dtype: torch.dtype, limit: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = pair("qwen3", tmp_path, rounded=True, **WIDE)
    wishes = training(kl_reg_weight=0.1, alpha=0.0)
    exact = outcome(both.plain(), replies(4), wishes)
    if way == "flash" and flash.able(torch.zeros(1, 1, 32, dtype=dtype)) is None:
        pytest.skip("not in this precision on this processor")
    if way == "products":
        monkeypatch.setattr(flash, "able", lambda _q: None)
    if way == "fused":
        monkeypatch.setattr(decoder, "attend", lambda *given: (fused.attend(*given), None))

    assert total_error(outcome(both.fast(dtype), replies(4), wishes), exact) < limit


def test_a_cpu_attends_by_what_it_is_quickest_at(monkeypatch: pytest.MonkeyPatch) -> None:
    def called(*_given: object) -> tuple[str, str]:
        return "products", "lse"

    monkeypatch.setattr(products, "attend", called)
    monkeypatch.setattr(flash, "attend", lambda call, *_given: (call, "lse"))
    tree, (q, _, k, v) = pack([[1]]), numbers(pack([[1]]), (1, 1, 32), torch.bfloat16)

    monkeypatch.setattr(flash, "able", lambda _q: None)
    assert attention.attend(q, k, v, tree)[0] == "products"
    monkeypatch.setattr(flash, "able", lambda _q: "flash")
    assert attention.attend(q, k, v, tree)[0] == "flash"


@pytest.mark.parametrize(("threads", "way"), [(2, "flash"), (3, "products")])
def test_threads_that_flash_has_no_work_for_are_given_to_products(
    threads: int, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(flash, "able", lambda _q: "call")
    monkeypatch.setattr(flash, "attend_backward", lambda *_given: "flash")
    monkeypatch.setattr(products, "attend_backward", lambda *_given: "products")
    tree = pack([[1]])
    q, grad, k, v = numbers(tree, (1, 1, 32), torch.float32)

    found: object = attention.attend_backward(grad, q, k, v, q, torch.zeros(1, 1), tree)

    assert found == way

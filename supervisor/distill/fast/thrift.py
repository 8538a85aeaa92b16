"""How sparing with memory a lesson of the fast engine must be: pure arithmetic."""

from dataclasses import dataclass

from supervisor.distill.fast.decoder import Shape

SAFE = 0.85  # share of the free memory that is planned with
LEAST = 16  # tokens of a pass, however little there is: then it may fail, and says so


@dataclass(frozen=True)
class Need:
    """Bytes. ``row``: for each token of a pass with a gradient."""

    weights: int
    adapter: int  # matrices, their copies, gradients and moments
    row: int
    spare_row: int  # when only each layer's input is kept


@dataclass(frozen=True)
class Thrift:
    packed: bool  # weights stay in the GGUF as they are, and are unpacked for each product
    spare: bool  # a layer's results are computed again for the backward pass, instead of kept
    rows: int  # tokens in one pass, if one reply does not need more

    def __str__(self) -> str:
        again = ", layers computed again" if self.spare else ""
        return f"{'packed' if self.packed else 'whole'}{again}, {self.rows} tokens a pass"


def need(shape: Shape, parameters: int, rank: int, itemsize: int) -> Need:
    queries, keys = shape.heads * shape.width, shape.key_heads * shape.width
    stream = 4 * shape.hidden  # bytes: what goes from layer to layer is float32
    kept = 2 * stream + (2 * queries + 2 * keys + 2 * shape.inner) * itemsize  # see Kept
    working = 2 * kept + 2 * shape.inner * itemsize  # one layer's, while its gradient is computed
    ends = 2 * (shape.hidden + queries) + 2 * (shape.hidden + keys) + 3 * (shape.hidden + shape.inner)  # of all maps
    return Need(
        weights=parameters * itemsize,
        adapter=shape.layers * ends * rank * (4 * 4 + itemsize),
        row=shape.layers * kept + working,
        spare_row=shape.layers * stream + working,
    )


def choose(needed: Need, rows: int, free: int | None, *, packable: bool) -> Thrift:
    """The quickest way that fits ``free`` bytes, None if nobody knows them; ``rows``: of all replies in one pass."""
    room = float("inf") if free is None else SAFE * free - needed.adapter
    if needed.weights + rows * needed.row <= room:
        return Thrift(packed=False, spare=False, rows=rows)
    if needed.weights + rows * needed.spare_row <= room:
        return Thrift(packed=False, spare=True, rows=rows)
    left = room if packable else room - needed.weights
    return Thrift(packed=packable, spare=True, rows=max(LEAST, min(rows, int(left / needed.spare_row))))

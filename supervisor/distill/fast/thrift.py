"""How sparing with memory a lesson of the fast engine must be: pure arithmetic."""

from dataclasses import dataclass

from supervisor.distill.fast.decoder import Shape

SAFE = 0.85  # share of the free memory that is planned with
LEAST = 16  # tokens of a pass, however little there is: then it may fail, and says so


@dataclass(frozen=True)
class Need:
    """Bytes. ``row``: for each token of a pass with a gradient, when only the layers' inputs are kept."""

    weights: int
    scratch: int  # for one matrix, when the others stay packed
    adapter: int  # matrices, their copies, gradients and moments
    row: int
    layer_row: int  # more for each token and each layer whose results are kept
    layers: int


@dataclass(frozen=True)
class Thrift:
    packed: bool  # weights stay in their file as they are, and are unpacked for each product
    again: int  # of so many layers the results are computed again for the backward pass, instead of kept
    rows: int  # tokens in one pass, if one reply does not need more

    def __str__(self) -> str:
        again = f", {self.again} layers computed again" if self.again else ""
        return f"{'packed' if self.packed else 'whole'}{again}, {self.rows} tokens a pass"


def need(shape: Shape, parameters: int, rank: int, itemsize: int) -> Need:
    queries, keys = shape.heads * shape.width, shape.key_heads * shape.width
    stream = 4 * shape.hidden  # bytes: what goes from layer to layer is float32
    kept = 2 * stream + (2 * queries + 2 * keys + 2 * shape.inner) * itemsize + 4 * shape.heads  # see Kept
    working = 2 * kept + 2 * shape.inner * itemsize  # one layer's, while its gradient is computed
    ends = 2 * (shape.hidden + queries) + 2 * (shape.hidden + keys) + 3 * (shape.hidden + shape.inner)  # of all maps
    return Need(
        weights=parameters * itemsize,
        scratch=shape.largest * itemsize,
        adapter=shape.layers * ends * rank * (4 * 4 + itemsize),
        row=shape.layers * stream + working,
        layer_row=kept - stream,
        layers=shape.layers,
    )


def choose(needed: Need, rows: int, free: int | None, *, packed: bool = False) -> Thrift:
    """The quickest way that fits ``free`` bytes, None if nobody knows them; ``rows``: of all replies in one pass.

    ``packed``: weights stay so, however much memory is free.
    """
    if free is None:
        return Thrift(packed, again=0, rows=rows)
    room = int(SAFE * free) - needed.adapter
    if not packed and room - needed.weights < rows * needed.row:
        packed = True
    left = room - (needed.scratch if packed else needed.weights)
    if left < rows * needed.row:
        return Thrift(packed, needed.layers, max(LEAST, left // needed.row))
    kept = left // rows - needed.row
    return Thrift(packed, max(0, needed.layers - kept // needed.layer_row), rows)

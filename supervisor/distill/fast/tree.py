"""Token sequences packed into a tree, so that what several begin with is computed once.

The chats of a lesson share their system prompt, and the two readings of one chat (with the feedback and without) share
most of the prompt. A node of the tree is a run of tokens; it sees all of its ancestors, and itself up to the token.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

LONGEST = 256  # tokens of one node: a long run is a chain, so that little above the diagonal is computed


@dataclass(frozen=True)
class Node:
    """Rows ``begin`` to ``end`` of the packed tensors. ``path``: the rows of all ancestors, outermost first."""

    begin: int
    end: int
    path: tuple[tuple[int, int], ...]

    @property
    def depth(self) -> int:
        """Tokens before its first one."""
        return sum(end - begin for begin, end in self.path)

    @property
    def seen(self) -> tuple[tuple[int, int], ...]:
        """The runs of rows that its last token attends to, none right behind another."""
        runs: list[tuple[int, int]] = []
        for begin, end in (*self.path, (self.begin, self.end)):
            follows = bool(runs) and runs[-1][1] == begin
            runs.append((runs.pop()[0] if follows else begin, end))
        return tuple(runs)


@dataclass(frozen=True)
class Tree:
    tokens: Tensor  # (N,) ids, N <= the tokens of all sequences together
    positions: Tensor  # (N,) place of each in its sequences
    nodes: tuple[Node, ...]
    rows: tuple[Tensor, ...]  # per sequence (L,): the row that holds each of its tokens


def pack(sequences: Sequence[Sequence[int]], *, device: torch.device | None = None) -> Tree:
    """The smallest tree that holds these sequences; none may be empty."""
    tokens: list[int] = []
    nodes: list[Node] = []
    rows: list[list[int]] = [[] for _ in sequences]
    for members, run, path in _runs(sequences, range(len(sequences)), 0, ()):
        begin = len(tokens)
        tokens.extend(run)
        nodes.append(Node(begin, len(tokens), tuple((nodes[index].begin, nodes[index].end) for index in path)))
        for member in members:
            rows[member].extend(range(begin, len(tokens)))
    positions = torch.cat([torch.arange(node.depth, node.depth + node.end - node.begin) for node in nodes])
    return Tree(
        torch.tensor(tokens, device=device),
        positions.to(device),
        tuple(nodes),
        tuple(torch.tensor(row, device=device) for row in rows),
    )


Run = tuple[Sequence[int], Sequence[int], tuple[int, ...]]  # its sequences, its tokens, its ancestors' numbers


def _runs(sequences: Sequence[Sequence[int]], members: Sequence[int], depth: int, path: tuple[int, ...]) -> list[Run]:
    """The runs below a node, parents before their children; ancestors are numbered as the runs are returned."""
    runs: list[Run] = []
    stack = [(tuple(members), depth, path)]
    while stack:
        group, depth, path = stack.pop()
        for branch in _branches(sequences, group, depth):
            end = _agree(sequences, branch, depth)
            runs.append((branch, sequences[branch[0]][depth:end], path))
            stack.append((branch, end, (*path, len(runs) - 1)))
    return runs


def _branches(sequences: Sequence[Sequence[int]], group: Sequence[int], depth: int) -> Iterator[tuple[int, ...]]:
    """Those of the group that go on, by the token they go on with."""

    def following(member: int) -> int:
        return sequences[member][depth]

    going_on = sorted((member for member in group if len(sequences[member]) > depth), key=following)
    yield from (tuple(members) for _, members in groupby(going_on, key=following))


def _agree(sequences: Sequence[Sequence[int]], branch: Sequence[int], depth: int) -> int:
    """Where the first of them ends or turns off, ``LONGEST`` tokens ahead at most."""
    first = sequences[branch[0]]
    end = depth + 1
    limit = min(depth + LONGEST, *(len(sequences[member]) for member in branch))
    while end < limit and all(sequences[member][end] == first[end] for member in branch):
        end += 1
    return end

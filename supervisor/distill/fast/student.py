"""The fast engine as a student: many replies in one pass, their common beginnings computed once.

One pass without a gradient serves the teacher and the base: it is the same bare model, on one tree. What the version
that wrote a reply thought of it is, when that is where the student starts, what the first update computes anyway.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from supervisor.distill.fast.base import Files
from supervisor.distill.fast.decoder import Decoder, LayerLora, Pass
from supervisor.distill.fast.lora import Adapter, read_adapter
from supervisor.distill.fast.tree import Tree, pack
from supervisor.distill.job import Training
from supervisor.distill.loss import Target, sdpo
from supervisor.distill.student import STUDENT, Reply, Step, Told
from supervisor.distill.support import with_tail


@dataclass
class Goal:
    """What one reply of T tokens is compared with. ``behaviour``: None until the student's first pass tells it."""

    own: Tensor  # (T,) the reply's tokens
    support: Tensor  # (T, K)
    teacher: Tensor  # (T, K+1)
    thought: Tensor  # (T, H) the teacher's hidden states
    base: Tensor  # (T,)
    behaviour: Tensor | None


@dataclass(frozen=True)
class FastStudent:
    model: Decoder
    files: Files
    adapter: Adapter
    start: Path | None
    """The adapter folder that ``adapter`` was read from."""
    again: int
    """The first so many layers' results are computed again in the backward pass, instead of kept."""
    rows: int
    """Tokens in one pass, if one reply does not need more."""

    @property
    def parameters(self) -> dict[str, torch.nn.Parameter]:
        return self.adapter.parameters

    @property
    def device(self) -> torch.device:
        return self.model.norm.device

    @torch.no_grad()
    def goals(self, replies: Sequence[Reply], training: Training, told: Told) -> list[Goal]:
        groups = list(self.groups(replies))
        parts = [partial(part_of, told, number, len(groups)) for number in range(len(groups))]
        return [
            goal for group, part in zip(groups, parts, strict=True) for goal in self.goals_of(group, training, part)
        ]

    def goals_of(self, group: Sequence[Reply], training: Training, told: Told) -> Iterator[Goal]:
        count = len(group)
        sequences = [*(asked(reply) for reply in group), *((*reply.hindsight, *reply.tokens) for reply in group)]
        tree = pack(sequences, device=self.device)
        before = [before_reply(tree, index, group[index % count]) for index in range(2 * count)]
        hidden = self.model.read(tree, torch.cat(before), told=told)
        bare, thought = hidden.chunk(2)  # equally many rows: the replies are the same
        own = self.tokens(group)
        base = self.model.head.log_probs(bare, own[:, None])[:, 0]
        teacher, support = self.model.head.top(thought, min(training.teacher_top_k, self.model.shape.vocabulary - 1))
        columns = [split(column, group) for column in (own, support, with_tail(teacher), thought, base)]
        others = self.by_other_versions(group)
        for index, reply in enumerate(group):
            own, support, teacher, thought, base = (column[index] for column in columns)
            yield Goal(own, support, teacher, thought, base, base if reply.behaviour is None else others.get(index))

    def by_other_versions(self, group: Sequence[Reply]) -> dict[int, Tensor]:
        """What a version that is neither the bare base nor where the student starts thought of its own replies."""
        found: dict[int, Tensor] = {}
        for folder in {reply.behaviour for reply in group} - {None, STUDENT, self.start}:
            assert folder is not None
            indices = [index for index, reply in enumerate(group) if reply.behaviour == folder]
            author = read_adapter(folder, self.files, device=self.device).layers(self.files, self.model.dtype)
            found |= zip(indices, self.score([group[index] for index in indices], author), strict=True)
        return found

    def gradients(self, replies: Sequence[Reply], goals: Sequence[Goal], training: Training, told: Told) -> list[Step]:
        lora = self.adapter.layers(self.files, self.model.dtype)
        groups = list(self.groups(replies))
        steps: list[Step] = []
        for number, group in enumerate(groups):
            own = goals[len(steps) : len(steps) + len(group)]
            made = self.passed(group, lora, partial(part_of, told, number, len(groups)))
            steps += self.gradients_of(made, group, own, training, share=1 / len(replies))
        return steps

    @torch.no_grad()
    def passed(self, group: Sequence[Reply], lora: Sequence[LayerLora], told: Told) -> Pass:
        tree = pack([asked(reply) for reply in group], device=self.device)
        rows = torch.cat([before_reply(tree, index, reply) for index, reply in enumerate(group)])
        return Pass(self.model, lora, tree, rows, again=self.again, told=told)

    @torch.no_grad()
    def gradients_of(
        self, made: Pass, group: Sequence[Reply], goals: Sequence[Goal], training: Training, share: float
    ) -> list[Step]:
        if training.support == "student":
            self.renew(goals, split(made.hidden, group))
        ids = torch.cat([torch.cat([goal.support, goal.own[:, None]], 1) for goal in goals])  # (R, K+1)
        log_probs, rest = self.model.head.log_probs_and_rest(made.hidden, ids)
        steps: list[Step] = []
        leaf = log_probs.requires_grad_()
        with torch.enable_grad():
            for goal, seen in zip(goals, split(leaf, group), strict=True):
                own = seen[:, -1]
                goal.behaviour = own.detach() if goal.behaviour is None else goal.behaviour
                target = Target(goal.support, goal.teacher, goal.base, goal.behaviour)
                steps.append(Step(sdpo(seen[:, :-1], own, target, training), own.detach()))
            torch.autograd.backward(torch.stack([step.losses.total for step in steps]).sum() * share)
        assert leaf.grad is not None
        made.backward(self.model.head.pull(ids, leaf.grad, log_probs.detach(), rest))
        return steps

    def renew(self, goals: Sequence[Goal], hidden: Sequence[Tensor]) -> None:
        """The student's own likeliest tokens as the support, and what the teacher thinks of them."""
        for goal, seen in zip(goals, hidden, strict=True):
            goal.support = self.model.head.top(seen, goal.support.shape[1])[1]
            goal.teacher = with_tail(self.model.head.log_probs(goal.thought, goal.support))

    @torch.no_grad()
    def log_probs(self, replies: Sequence[Reply]) -> list[Tensor]:
        """Of each reply's tokens under the student as it is now: (T,) each."""
        lora = self.adapter.layers(self.files, self.model.dtype)
        return [scores for group in self.groups(replies) for scores in self.score(group, lora)]

    def score(self, group: Sequence[Reply], lora: Sequence[LayerLora]) -> Sequence[Tensor]:
        tree = pack([asked(reply) for reply in group], device=self.device)
        rows = torch.cat([before_reply(tree, index, reply) for index, reply in enumerate(group)])
        own = self.tokens(group)
        return split(self.model.head.log_probs(self.model.read(tree, rows, lora), own[:, None])[:, 0], group)

    def tokens(self, group: Sequence[Reply]) -> Tensor:
        return torch.tensor([token for reply in group for token in reply.tokens], device=self.device)

    def groups(self, replies: Sequence[Reply]) -> Iterator[Sequence[Reply]]:
        """As many as go into one pass."""
        group: list[Reply] = []
        for reply in replies:
            if group and len(pack([asked(one) for one in (*group, reply)]).tokens) > self.rows:
                yield group
                group = []
            group.append(reply)
        yield group


def part_of(told: Told, number: int, count: int, done: float) -> None:
    """One pass of several."""
    told((number + done) / count)


def asked(reply: Reply) -> tuple[int, ...]:
    return (*reply.prompt, *reply.tokens)


def before_reply(tree: Tree, sequence: int, reply: Reply) -> Tensor:
    """The rows after which the reply's tokens come: (T,)."""
    return tree.rows[sequence][-len(reply.tokens) - 1 : -1]


def split(rows: Tensor, group: Sequence[Reply]) -> Sequence[Tensor]:
    """Rows of all the group's reply tokens, by reply."""
    return torch.split(rows, [len(reply.tokens) for reply in group])

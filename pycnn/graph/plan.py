"""A program prepared for running: its steps, where every array lies, the order of backward.

One timeline holds a training step: step i of n runs forward at the moment i and backward at
2n - 1 - i. A value lives from the step that writes it to the last that reads it, forward or
backward; its gradient from the first contribution, of the last step that read the value, to the
step that wrote the value. `memory.place` packs what lives in one arena; arrays that come from the
user or go to him (x, y, dy, dx) are memory of their own.

A result takes the place of an operand (in place) exactly if this is the operand's last use on the
whole timeline, the operator allows it, and both have one size and are the plan's own memory.

At a fork the gradients add up in the reverse order of the steps, the first one written, the others
added: the same order and the same bits always.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from pycnn.graph import fuse, memory
from pycnn.graph.fuse import Step
from pycnn.graph.memory import Block, lines
from pycnn.graph.program import Program
from pycnn.graph.values import Shape, Value, size

Where = Literal["arena", "x", "y", "dy", "dx"]


@dataclass(frozen=True, eq=False)
class Place:
    """An array of a plan: in a block of the arena, or the user's array number `index`."""

    where: Where
    index: int
    shape: Shape  # without N
    dtype: np.dtype[Any]


@dataclass(eq=False)
class _Group:
    """Values, or gradients, that share memory: views of each other, or results in place."""

    size: int
    first: int
    last: int
    where: Where = "arena"
    index: int = -1
    members: list[int] = field(default_factory=list)


class _Groups(dict[int, _Group]):
    """The group of each value, by its id."""

    def add(self, value: Value, group: _Group) -> None:
        self[id(value)] = group
        group.members.append(id(value))

    def merge(self, into: _Group, other: _Group) -> None:
        for key in other.members:
            self[key] = into
        into.members += other.members


@dataclass(eq=False)
class Gradients:
    """What backward of one step does.

    dy: places of its outputs' gradients; dx: of its inputs', None where nobody wants one; adds: for
    each input the place of the gradient that dx, a temporary one then, is added to, or None. zeros:
    gradients of outputs that nothing reads. copies: (from, to, whether it adds) of a view.
    """

    index: int
    dy: tuple[Place, ...]
    dx: tuple[Place | None, ...]
    adds: tuple[Place | None, ...]
    zeros: tuple[Place, ...] = ()
    copies: tuple[tuple[Place, Place, bool], ...] = ()


class Plan:
    """The steps of a program for one type of numbers and one mode, with a place for every array.

    steps: what runs, in order. values, gradients: the place of each value, by its id. kept: for
    each step the arrays that its forward leaves for its backward: places, or (shape, dtype) of
    arrays whose size does not depend on N. blocks: of the arena; bytes: of all, an image.
    """

    def __init__(self, program: Program, dtype: Any, mode: str, fusing: bool = True) -> None:
        """mode: "training", "eval" or "compiled"."""
        self.program, self.dtype, self.mode = program, np.dtype(dtype), mode
        self.training = mode == "training"
        self.steps: list[Step] = fuse.fused(program, mode) if fusing else fuse.plain(program)
        self._end = 2 * len(self.steps)
        self._trained = [has_parameters(step) for step in self.steps]
        self._temporaries: dict[tuple[int, int], Place] = {}
        self.blocks: list[Block] = []
        self.values: dict[int, Place] = {}
        self.gradients: dict[int, Place] = {}
        self._find_readers()
        self._place_values()
        self.kept = [list(self._kept(i, step)) for i, step in enumerate(self.steps)]
        if self.training:
            self._find_contributions()
            self._place_gradients()
            self.backward = {wanted: list(self._backward(wanted)) for wanted in (False, True)}
            self.output_gradients = list(self._output_gradients())
        self.bytes = memory.place(self.blocks)

    def _back(self, i: int) -> int:
        """The moment at which step i runs backward."""
        return self._end - 1 - i

    def _bytes(self, value: Value) -> int:
        return lines(size(value.full_shape) * self.dtype.itemsize)

    def _find_readers(self) -> None:
        """Which step writes a value; which read it at which positions."""
        self.writer: dict[int, int] = {}
        self.readers: dict[int, list[tuple[int, int]]] = {}
        for i, step in enumerate(self.steps):
            for y in step.outputs:
                self.writer[id(y)] = i
            for k, x in enumerate(step.inputs):
                self.readers.setdefault(id(x), []).append((i, k))

    def _place_values(self) -> None:
        groups = _Groups()
        n = len(self.steps)
        for j, x in enumerate(self.program.inputs):
            groups.add(x, _Group(self._bytes(x), -1, self._end, "x", j))
        for i, step in enumerate(self.steps):
            for y in step.outputs:
                own = None if is_view(step) else _Group(self._bytes(y), i, i)
                groups.add(y, own or groups[id(step.inputs[0])])
        for i, step in enumerate(self.steps):
            read = step.operation.reads if self.training and not is_view(step) else ""
            for x in step.inputs:
                group = groups[id(x)]
                group.last = max(group.last, i, self._back(i) if "x" in read else i)
            for y in step.outputs:
                group = groups[id(y)]
                group.last = max(group.last, self._back(i) if "y" in read else i)
        for j, y in enumerate(self.program.outputs):
            group = groups[id(y)]
            group.last = max(group.last, n - 1)
            if group.where == "arena" and group.last < n:  # else a copy is handed out
                group.where, group.index = "y", j
        for i, step in enumerate(self.steps):
            self._work_in_place(groups, i, step)
        for group in {id(group): group for group in groups.values()}.values():
            self._add_block(group)
        for step in self.steps:
            for value in (*step.inputs, *step.outputs):
                self.values[id(value)] = self._at(groups[id(value)], value)
        for x in self.program.inputs:
            self.values[id(x)] = self._at(groups[id(x)], x)

    def _work_in_place(self, groups: _Groups, i: int, step: Step) -> None:
        """Let the result lie where an operand lies, if the rule of this page allows it."""
        if is_view(step) or len(step.outputs) != 1:
            return
        result = groups[id(step.outputs[0])]
        for k in step.operation.in_place:
            operand = groups[id(step.inputs[k])]
            alone = sum(groups[id(x)] is operand for x in step.inputs) == 1
            if not alone or operand.where != "arena" or operand.last != i:
                continue
            if not _same_size(step.inputs[k], step.outputs[0]) or operand is result:
                continue
            result.first = operand.first
            groups.merge(result, operand)
            return

    def _add_block(self, group: _Group) -> None:
        if group.where == "arena":
            group.index = self._block(group.size, group.first, group.last)

    def _block(self, nbytes: int, first: int, last: int) -> int:
        self.blocks.append(Block(nbytes, first, last))
        return len(self.blocks) - 1

    def _at(self, group: _Group, value: Value) -> Place:
        return Place(group.where, group.index, value.full_shape[1:], self.dtype)

    def _kept(self, i: int, step: Step) -> Iterator[Any]:
        shapes = tuple(x.full_shape for x in step.inputs)
        last = self._back(i) if self.training else i
        for shape, dtype in step.operation.keeps(shapes[0] if len(shapes) == 1 else shapes):
            kind = np.dtype(dtype if dtype is not None else self.dtype)
            if shape[0] is None:
                nbytes = lines(size(shape) * kind.itemsize)
                yield Place("arena", self._block(nbytes, i, last), tuple(shape[1:]), kind)
            else:
                yield tuple(shape), kind

    def _find_contributions(self) -> None:
        """Where the parts of each value's gradient come from, in the order of adding them up.

        ("dy", j): output j is this value; (i, k): step i reads it as its input k.
        """
        self.parts: dict[int, list[tuple[Any, int]]] = {}
        for step in self.steps:
            for value in (*step.inputs, *step.outputs):
                self.parts.setdefault(id(value), [])
        for x in self.program.inputs:
            self.parts.setdefault(id(x), [])
        for j, y in enumerate(self.program.outputs):
            self.parts[id(y)].append(("dy", j))
        for i in reversed(range(len(self.steps))):
            for k, x in enumerate(self.steps[i].inputs):
                self.parts[id(x)].append((i, k))

    def _first_moment(self, value: Value) -> int:
        """When the first part of its gradient is written."""
        parts = self.parts[id(value)]
        if not parts:  # nothing reads it: zeros, where it was written
            writer = self.writer.get(id(value))
            return self._end if writer is None else self._back(writer)
        return len(self.steps) if parts[0][0] == "dy" else self._back(parts[0][0])

    def _place_gradients(self) -> None:
        groups = _Groups()
        for j, x in enumerate(self.program.inputs):
            groups.add(x, _Group(self._bytes(x), self._first_moment(x), self._end, "dx", j))
        for i, step in enumerate(self.steps):
            for y in step.outputs:
                group = _Group(self._bytes(y), self._first_moment(y), self._back(i))
                parts = self.parts[id(y)]
                if len(parts) == 1 and parts[0][0] == "dy":
                    group.where, group.index = "dy", parts[0][1]
                groups.add(y, group)
        for i in reversed(range(len(self.steps))):
            self._share_gradient(groups, i, self.steps[i])
        for group in {id(group): group for group in groups.values()}.values():
            self._add_block(group)
        for values in (self.program.inputs, *(step.outputs for step in self.steps)):
            for value in values:
                self.gradients[id(value)] = self._at(groups[id(value)], value)

    def _share_gradient(self, groups: _Groups, i: int, step: Step) -> None:
        """Let dx be dy: always for a view, else in place where the operator allows it."""
        k = 0 if is_view(step) else step.operation.gradient_in_place
        if k is None or len(step.outputs) != 1:
            return
        x, dy = step.inputs[k], groups[id(step.outputs[0])]
        dx = groups[id(x)]
        first = self.parts[id(x)][0] == (i, k)
        same = _same_size(x, step.outputs[0])
        if not first or not same or step.inputs.count(x) != 1:
            return
        if is_view(step):
            if len(self.parts[id(x)]) != 1:
                return  # others add to it: they need memory of their own
            if dx.where == "dx" and dy.where == "arena":
                dy.where, dy.index = "dx", dx.index
        elif dx.where != "arena" or dy.where != "arena":
            return
        dy.last = dx.last
        groups.merge(dy, dx)

    def _backward(self, input_gradient: bool) -> Iterator[Gradients]:
        """The steps that run backward, in their order; without what nobody wants."""
        needed = {id(x) for x in self.program.inputs} if input_gradient else set()
        for i, step in enumerate(self.steps):
            if self._trained[i] or any(id(x) in needed for x in step.inputs):
                needed.update(map(id, step.outputs))
        for i in reversed(range(len(self.steps))):
            step = self.steps[i]
            wanted = [id(x) in needed for x in step.inputs]
            if not any(wanted) and not self._trained[i]:
                continue
            dy = tuple(self.gradients[id(y)] for y in step.outputs)
            if is_view(step):
                yield Gradients(i, dy, (), (), copies=tuple(self._copies(i, step)))
                continue
            dx: list[Place | None] = []
            adds: list[Place | None] = []
            for k, x in enumerate(step.inputs):
                target = self.gradients[id(x)] if wanted[k] else None
                adding = target is not None and self.parts[id(x)][0] != (i, k)
                dx.append(self._temporary(i, k, x) if adding else target)
                adds.append(target if adding else None)
            zeros = tuple(self.gradients[id(y)] for y in step.outputs if not self.parts[id(y)])
            yield Gradients(i, dy, tuple(dx), tuple(adds), zeros)

    def _copies(self, i: int, step: Step) -> Iterator[tuple[Place, Place, bool]]:
        source, target = (self.gradients[id(v[0])] for v in (step.outputs, step.inputs))
        if (source.where, source.index) != (target.where, target.index):
            yield source, target, self.parts[id(step.inputs[0])][0] != (i, 0)

    def _temporary(self, i: int, k: int, value: Value) -> Place:
        """Memory for a part of a gradient, which is then added to the others."""
        if (i, k) not in self._temporaries:
            block = self._block(self._bytes(value), self._back(i), self._back(i))
            place = Place("arena", block, value.full_shape[1:], self.dtype)
            self._temporaries[i, k] = place
        return self._temporaries[i, k]

    def _output_gradients(self) -> Iterator[tuple[int, Place, bool]]:
        """(number of dy, the place it is copied or added to, whether it adds) before backward."""
        for values in (self.program.inputs, *(step.outputs for step in self.steps)):
            for value in values:
                parts, target = self.parts[id(value)], self.gradients[id(value)]
                for number, (kind, j) in enumerate(parts):
                    if kind == "dy" and (target.where, target.index) != ("dy", j):
                        yield j, target, number > 0

    def layers(self) -> Iterable[Any]:
        """The layers of all nodes, each once."""
        return {id(node.operation): node.operation for node in self.program.nodes}.values()


def _same_size(a: Value, b: Value) -> bool:
    """By numbers: blocks are whole lines, and may be as large for less."""
    return size(a.full_shape) == size(b.full_shape)


def is_view(step: Step) -> bool:
    """Whether its result is its input in another shape, and dx dy."""
    return bool(step.operation.is_view())


def has_parameters(step: Step) -> bool:
    """Whether its layers have parameters, which want gradients."""
    return any(
        next(iter(node.operation.named_parameters()), None) is not None for node in step.nodes
    )


def text(steps: Sequence[Step]) -> list[tuple[str, str, str]]:
    """A line a step: names, kinds, and what the operator says of itself."""
    lines_of = []
    for step in steps:
        parts = getattr(step.operation, "layers", lambda s=step: [n.operation for n in s.nodes])()
        names = {id(node.operation): node.name for node in step.nodes}
        shapes = tuple(x.known_shape for x in step.inputs)
        notes = step.operation.notes(shapes[0] if len(shapes) == 1 else shapes)
        label = " ".join(name for part in parts if (name := names.get(id(part), "")))
        lines_of.append((label, " + ".join(type(part).__name__ for part in parts), notes))
    return lines_of

"""Runs of nodes that one operator computes: a table of patterns, and the search for them.

Operators stand in `pycnn.layers.fused`, the lines of the table in `pycnn.layers.patterns`;
`Pattern` says what a line holds. Adding one is a line there and an operator, nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pycnn.graph.program import Program
from pycnn.graph.values import Node, Value, infer

# When a pattern is looked for: in a plan of a module in training mode, in eval mode, or of a
# compiled network, whose weights no longer change.
MODES = frozenset({"training", "eval", "compiled"})


@dataclass(frozen=True)
class Pattern:
    """Nodes one behind the other, each the only reader of the one before, and what replaces them.

    kinds: the classes of their layers, exactly these, or classes that leave `compute` and
    `gradients` to one of these that is marked `family`. make(*layers): the operators that run in
    their place, in order; the first takes the chain's input, the last gives its result, and where a
    member has other operands (an addition) they are the last one's too, behind the chain's value;
    all of its operands have one shape.
    fits(*layers): a further condition. modes: when.
    """

    kinds: tuple[type, ...]
    make: Callable[..., Sequence[Any]]
    fits: Callable[..., bool] = lambda *_: True
    modes: frozenset[str] = MODES


FOLDING, FIRST, OTHERS = range(3)
_PHASES: tuple[list[Pattern], ...] = ([], [], [])


def register(*patterns: Pattern, phase: int = OTHERS) -> None:
    """Add lines to the table; those of an earlier phase run before all others, on plainer nodes."""
    table = _PHASES[phase]
    table.extend(patterns)
    table.sort(key=lambda pattern: -len(pattern.kinds))  # the longest one wins


@dataclass
class Step:
    """What a plan runs: an operator, the values it reads and gives, the nodes it stands for."""

    operation: Any
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    nodes: tuple[Node, ...]

    @property
    def label(self) -> str:
        """The node that sentences name: the first one."""
        return self.nodes[0].label


def plain(program: Program) -> list[Step]:
    """Each node by itself."""
    return [Step(n.operation, n.inputs, n.outputs, (n,)) for n in program.nodes]


def fused(program: Program, mode: str) -> list[Step]:
    """The steps of a program with all patterns of `mode` replaced, in the order of running."""
    outputs = set(map(id, program.outputs))
    steps = list(_without_identities(plain(program), outputs))
    for phase, table in enumerate(_PHASES):
        lines = [pattern for pattern in table if mode in pattern.modes]
        before = -1
        while lines and len(steps) != before:
            before = len(steps)
            steps = list(_replaced(steps, lines, outputs))
            if phase == OTHERS or mode != "compiled":
                break  # folding goes on: a norm behind a norm
    return steps


def _without_identities(steps: list[Step], outputs: set[int]) -> Iterator[Step]:
    """Leave out what does nothing, as a Dropout in eval mode, unless it gives an output."""
    stands_for: dict[int, Value] = {}
    for step in steps:
        step.inputs = tuple(stands_for.get(id(x), x) for x in step.inputs)
        if step.operation.is_identity() and id(step.outputs[0]) not in outputs:
            stands_for[id(step.outputs[0])] = step.inputs[0]
        else:
            yield step


def _replaced(steps: list[Step], table: list[Pattern], outputs: set[int]) -> Iterator[Step]:
    """Each chain at the place of its last member, so that other operands exist by then."""
    readers: dict[int, list[int]] = {}
    for i, step in enumerate(steps):
        for x in step.inputs:
            readers.setdefault(id(x), []).append(i)
    by_first: dict[type, list[Pattern]] = {}
    for pattern in table:
        by_first.setdefault(pattern.kinds[0], []).append(pattern)
    taken: set[int] = set()
    at: dict[int, list[Step]] = {}
    for i, step in enumerate(steps):
        if i in taken:
            continue
        for pattern in by_first.get(type(step.operation), ()):
            chain = _chain(steps, i, pattern, readers, outputs)
            if chain is not None and taken.isdisjoint(chain):
                taken.update(chain)
                at[chain[-1]] = list(_made(pattern, [steps[k] for k in chain]))
                break
    for i, step in enumerate(steps):
        if i in at:
            yield from at[i]
        elif i not in taken:
            yield step


def _chain(
    steps: list[Step],
    first: int,
    pattern: Pattern,
    readers: dict[int, list[int]],
    outputs: set[int],
) -> list[int] | None:
    """The indices of the steps that `pattern` stands for, beginning with `first`, or None."""
    found = [first]
    for kind in pattern.kinds[1:]:
        y = steps[found[-1]].outputs
        reading = readers.get(id(y[0]), ())
        if len(y) != 1 or id(y[0]) in outputs or len(reading) != 1:
            return None  # somebody else sees the value between them
        if not _is(type(steps[reading[0]].operation), kind):
            return None
        found.append(reading[0])
    if not all(_is_even(steps[k]) for k in found):
        return None
    layers = [steps[k].operation for k in found]
    if len({layer.training for layer in layers}) > 1 or not pattern.fits(*layers):
        return None
    return found


def _is(found: type, kind: Any) -> bool:
    alike = issubclass(found, kind) and getattr(kind, "family", False)
    return found is kind or (
        alike and found.compute is kind.compute and found.gradients is kind.gradients  # type: ignore[attr-defined]
    )


def _is_even(step: Step) -> bool:
    """Whether all that it reads has one shape: no operand repeats beside another."""
    return len({x.known_shape for x in step.inputs}) == 1


def _made(pattern: Pattern, chain: list[Step]) -> Iterator[Step]:
    inner = {id(step.outputs[0]) for step in chain[:-1]}
    others = tuple(x for step in chain[1:] for x in step.inputs if id(x) not in inner)
    made = pattern.make(*(step.operation for step in chain))
    nodes = [node for step in chain for node in step.nodes]
    inputs = chain[0].inputs
    for i, operation in enumerate(made):
        last = i == len(made) - 1
        own = [node for node in nodes if node.operation is operation] or [
            node for node in nodes if all(node.operation is not other for other in made)
        ]
        if last:
            yield Step(operation, (*inputs, *others), chain[-1].outputs, tuple(own))
            return
        node = Node(operation, inputs, own[0].name)
        node.outputs = tuple(Value(inputs[0].trace, shape, node) for shape in infer(node))
        yield Step(operation, inputs, node.outputs, tuple(own))
        inputs = node.outputs

"""The table of `Layer.summary`."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from pycnn.graph.program import Program

if TYPE_CHECKING:
    from pycnn.layers.parameter import Parameter

InputShape = tuple[int | None, ...]


class Row(NamedTuple):
    """One call of the table; `flop` for one image's forward, parameters where they come first."""

    name: str
    kind: str
    output_shape: str
    parameters: int
    flop: int


def one_image(input_shape: InputShape) -> tuple[int, ...]:
    """`input_shape` with N = 1 where it is None; TypeError if another extent is None."""
    try:
        N, *rest = input_shape
        return tuple(operator.index(n) for n in (1 if N is None else N, *rest))  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise TypeError(
            f"input_shape is {input_shape!r}; expected whole numbers, for example "
            "(None, 28, 28, 1) for [N, H, W, C]; only N may be None."
        ) from None


def rows(program: Program, N: int | None = None) -> list[Row]:
    """A row a call, in order; shapes for N images."""
    counted: set[int] = set()
    found = []
    for node in program.nodes:
        new = [p for _, p in node.operation.named_parameters() if id(p) not in counted]
        counted.update(map(id, new))
        shapes = ", ".join(str((N, *y.full_shape[1:])) for y in node.outputs)
        flop = node.operation.flop_per_image(node.inputs[0].full_shape)
        found.append(Row(node.name, node.kind, shapes, sum(p.data.size for p in new), flop))
    return found


def table(
    program: Program, input_shape: Sequence[InputShape], parameters: Sequence[Parameter]
) -> str:
    """The text of `Layer.summary`; parameters: all, those that no call uses too."""
    calls = rows(program, input_shape[0][0])
    total = sum(p.data.size for p in parameters), sum(row.flop for row in calls)
    lines = [
        ("", "layer", "output shape", "parameters", "MFLOP / image"),
        *(("", "input", str(tuple(shape)), "", "") for shape in input_shape),
        *(
            (row.name, row.kind, row.output_shape, f"{row.parameters:,}", _mega(row.flop))
            for row in calls
        ),
        ("", "total", "", f"{total[0]:,}", _mega(total[1])),
    ]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    aligned = [
        f"{name:<{widths[0]}}  {kind:<{widths[1]}}  {shape:<{widths[2]}}  "
        f"{parameters:>{widths[3]}}  {flop:>{widths[4]}}".rstrip()
        for name, kind, shape, parameters, flop in lines
    ]
    rule = "-" * max(map(len, aligned))
    return "\n".join([aligned[0], rule, *aligned[1:-1], rule, aligned[-1]])


def _mega(flop: int) -> str:
    return f"{flop / 1e6:,.3f}"

"""The table of `Layer.summary`."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pycnn.layers.base import Layer

InputShape = tuple[int | None, ...]


class Row(NamedTuple):
    """One layer of the table; `flop` for one image's forward."""

    name: str
    kind: str
    output_shape: InputShape
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


def rows(layer: Layer, input_shape: InputShape, name: str = "") -> Iterator[Row]:
    """The layers without layers inside, in order."""
    children = layer._children()
    for child_name, child in children.items():
        yield from rows(child, input_shape, f"{name}.{child_name}" if name else child_name)
        input_shape = child.output_shape(input_shape)
    if not children:
        parameters = sum(parameter.data.size for _, parameter in layer._named_parameters())
        flop = layer.flop_per_image(input_shape)
        kind = type(layer).__name__
        yield Row(name, kind, layer.output_shape(input_shape), parameters, flop)


def table(layer: Layer, input_shape: InputShape) -> str:
    """The text of `Layer.summary`."""
    layers = list(rows(layer, input_shape))
    total = sum(row.parameters for row in layers), sum(row.flop for row in layers)
    lines = [
        ("", "layer", "output shape", "parameters", "MFLOP / image"),
        ("", "input", str(tuple(input_shape)), "", ""),
        *(
            (row.name, row.kind, str(row.output_shape), f"{row.parameters:,}", _mega(row.flop))
            for row in layers
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

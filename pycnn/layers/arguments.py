"""Arguments of layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from pycnn._runtime.checks import is_whole
from pycnn.ops.arrays import Padding

if TYPE_CHECKING:
    from pycnn.layers.base import Layer

T = TypeVar("T")


def positive(who: str, name: str, value: Any) -> int:
    """`value` as an int of at least 1; ValueError for anything else, a bool or a float too."""
    if not is_whole(value, 1):
        raise ValueError(f"{who}: {name} is {value!r}; expected a whole number of at least 1.")
    return int(value)


def frozen(padding: Padding) -> Padding:
    """`padding` in a form that cannot change behind the layer: lower case, tuples."""
    if isinstance(padding, str):
        return padding.lower()
    if isinstance(padding, (list, tuple, np.ndarray)):
        return tuple(side if np.ndim(side) == 0 else tuple(side) for side in padding)
    return padding


def shape_by(
    layer: Layer, rule: Callable[..., tuple[int, ...]], *arguments: Any, **keywords: Any
) -> tuple[int, ...]:
    """`rule(...)`, one of `ops`, whose errors then name the layer."""
    return tuple(checked(layer, rule, *arguments, **keywords))


def checked(layer: Layer, rule: Callable[..., T], *arguments: Any, **keywords: Any) -> T:
    """`rule(...)`, of `ops` as well, whose errors then name the layer."""
    try:
        return rule(*arguments, **keywords)
    except (TypeError, ValueError) as error:
        layer.refuse(str(error), type(error))

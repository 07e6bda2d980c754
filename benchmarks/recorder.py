"""Times the operators that a piece of Python really calls: it wraps the functions of `_pycnn`."""

from __future__ import annotations

import inspect
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import _pycnn
import numpy as np

from .peers.network import CHANNELS, DENSE, SIZES

# Which arguments an operator writes, by position; the others' result is their first argument.
WRITTEN = {
    "adam_step": (0, 2, 3),
    "sgd_step": (0, 2),
    "conv_pool_forward": (0, 1),
    "conv_pool_backward": (0, 1, 2),
    "max_pool2d_forward": (0, 1),
    "matmul": (4,),
}
# These also read what they write.
IN_PLACE = ("adam_step", "sgd_step", "add_bias", "accumulate")
# All parameters of an optimizer at once: the first argument is [parameters, gradients, moments ..].
TOGETHER = ("adam_all", "sgd_all", "rmsprop_all")


@dataclass(frozen=True)
class Operator:
    """One call: what it is, and what it works through."""

    name: str
    arrays: str  # shapes, as in `results <- sources`
    read_bytes: int
    written_bytes: int
    flop: float  # as direct convolution or a product counts them


def describe(name: str, arguments: tuple[Any, ...], result: Any = None) -> Operator:
    """The operator of one call; `result` may be an array too."""
    if name in TOGETHER:
        parameters, gradients, *moments = arguments[0]
        written = [*parameters, *(a for moment in moments for a in moment)]
        return Operator(
            name=name,
            arrays=f"{_shapes(written)} <- {_shapes(gradients)}",
            read_bytes=sum(a.nbytes for a in [*written, *gradients]),
            written_bytes=sum(a.nbytes for a in written),
            flop=0.0,
        )
    written = [arguments[i] for i in WRITTEN.get(name, (0,)) if i < len(arguments)]
    written = [a for a in written if isinstance(a, np.ndarray)]
    if isinstance(result, np.ndarray) and not any(result is a for a in written):
        written.append(result)
    read = [
        a
        for a in arguments
        if isinstance(a, np.ndarray) and (name in IN_PLACE or not any(a is w for w in written))
    ]
    sources = [a for a in read if not any(a is w for w in written)]
    return Operator(
        name=name,
        arrays=f"{_shapes(written)} <- {_shapes(sources)}",
        read_bytes=sum(a.nbytes for a in read),
        written_bytes=sum(a.nbytes for a in written),
        flop=0.0 if name in IN_PLACE else _flop(written, [*written, *read]),
    )


def _shapes(arrays: list[np.ndarray]) -> str:
    """As in `100x4x4x128 *3, 3x3x64x128`."""
    shapes = ["x".join(map(str, a.shape)) for a in arrays]
    counts = {shape: shapes.count(shape) for shape in shapes}
    return ", ".join(f"{shape} *{n}" if n > 1 else shape for shape, n in counts.items())


def _flop(written: list[np.ndarray], arrays: list[np.ndarray]) -> float:
    """Of the lecture's network: a weight among the arrays tells which layer it is.

    Each written float array with two axes or more (y, dx, dweight) is one pass over the layer.
    """
    weights = {DENSE: DENSE[0] * DENSE[1]}
    for size, C, OC in zip(SIZES, CHANNELS[:-1], CHANNELS[1:], strict=True):
        weights[3, 3, C, OC] = size * size * 9 * C * OC
    macs = next((weights[a.shape] for a in arrays if a.shape in weights), None)
    if macs is None:
        return 0.0
    batch = next(a.shape[0] for a in arrays if a.ndim > 1 and a.shape not in weights)
    passes = sum(a.ndim > 1 and a.dtype.kind == "f" for a in written)
    return 2.0 * batch * macs * passes


class Recorder:
    """Calls in their order: `seconds`, and with `describing` also `operators`."""

    def __init__(self) -> None:
        self.describing = False
        self.operators: list[Operator] = []
        self.names: list[str] = []
        self.seconds: list[float] = []

    def clear(self) -> None:
        """Forget all calls."""
        self.operators, self.names, self.seconds = [], [], []

    def wrap(self, name: str, function: Any) -> Any:
        """`function`, recorded if an argument is an array."""

        def recorded(*arguments: Any) -> Any:
            begin = time.perf_counter()
            result = function(*arguments)
            elapsed = time.perf_counter() - begin
            if name in TOGETHER or any(isinstance(a, np.ndarray) for a in arguments):
                self.names.append(name)
                self.seconds.append(elapsed)
                if self.describing:
                    self.operators.append(describe(name, arguments, result))
            return result

        return recorded


@contextmanager
def recording(recorder: Recorder) -> Iterator[Recorder]:
    """Inside, every function of `_pycnn` passes through the recorder."""
    functions = {name: f for name, f in vars(_pycnn).items() if inspect.isbuiltin(f)}
    for name, function in functions.items():
        setattr(_pycnn, name, recorder.wrap(name, function))
    try:
        yield recorder
    finally:
        for name, function in functions.items():
            setattr(_pycnn, name, function)

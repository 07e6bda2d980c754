"""The rules of running a layer: one thread at a time, one backward a forward, right arrays."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

import numpy as np

from pycnn.layers.memory import Buffers, Place
from pycnn.layers.parameter import Parameter
from pycnn.ops.arrays import Array, aligned_empty, kind_of, to_write

Shape = tuple[int, ...]
FLOATING = (np.dtype(np.float32), np.dtype(np.float64))


class Saved(NamedTuple):
    """What a forward in training mode leaves for one backward."""

    y_shape: Shape
    dtype: np.dtype[Any]
    thread: int
    kept: Any  # what `_forward` returned beside y


class Runnable:
    """What stands between the public forward and backward and a layer's formulas.

    Forward and backward of a layer that is called by the user write into `Place.FRESH` memory; a
    `Sequential` decides the place of its layers' results.
    """

    weight: Parameter | None = None
    training = True
    _name = ""  # in the Sequential that ran it last

    def _start(self) -> None:
        """Have no memory and no forward to go back from."""
        self._lock = threading.Lock()
        self._buffers = Buffers()
        self._shapes: tuple[Shape, Shape] = ((), ())
        self._saved: Saved | None = None
        self._reason = "backward came before forward: call forward(x) first"

    def _output_shape(self, x: Shape) -> Shape:
        """The shape of y; `_refuse` says what is wrong with x."""
        raise NotImplementedError(f"{type(self).__name__} must define _output_shape.")

    def _forward(self, x: Array, place: Place) -> tuple[Array, Any]:
        """Compute (y, what `_backward` needs); `_output(x, place)` is where to write y."""
        raise NotImplementedError(f"{type(self).__name__} must define _forward.")

    def _backward(self, dy: Array, kept: Any, place: Place | None) -> Array | None:
        """Add to the parameters' gradients; `_input_gradient(dy, place)` is where to write dx.

        place is None if nobody wants dx.
        """
        raise NotImplementedError(f"{type(self).__name__} must define _backward.")

    def _run_forward(self, x: Array, place: Place) -> Array:
        self._enter()
        try:
            self._check_input(x)
            self._saved = None
            self._reason = "its last forward failed: call forward(x) again"
            y, kept = self._forward(x if x.flags.c_contiguous else x.copy(order="C"), place)
            if self.training:
                self._saved = Saved(y.shape, y.dtype, threading.get_ident(), kept)
            else:
                self._reason = (
                    "its last forward ran in eval mode, which keeps nothing: "
                    "call forward(x) again in training mode"
                )
            return y
        finally:
            self._lock.release()

    def _run_backward(self, dy: Array, place: Place | None) -> Array | None:
        self._enter()
        try:
            saved = self._ready()
            self._check_output_gradient(dy, saved)
            self._saved = None
            self._reason = "backward already ran for the last forward: call forward(x) again first"
            if not dy.flags.c_contiguous:
                dy = dy.copy(order="C")
            return self._backward(dy, saved.kept, place)
        finally:
            self._lock.release()

    def _enter(self) -> None:
        if not self._lock.acquire(blocking=False):
            self._refuse(
                "it is running in another call, perhaps of another thread; a layer works for one "
                "thread at a time: give each thread its own copy.deepcopy(model).",
                RuntimeError,
            )

    def _ready(self) -> Saved:
        """What forward saved, or a RuntimeError that says why there is nothing."""
        if not self.training:
            self._refuse(
                "backward in eval mode: call train() and then forward(x) before backward(dy).",
                RuntimeError,
            )
        if self._saved is None:
            self._refuse(f"{self._reason}.", RuntimeError)
        if self._saved.thread != threading.get_ident():
            self._refuse(
                "its last forward ran in another thread, so this gradient may belong to another "
                "x: call forward(x) and backward(dy) in one thread.",
                RuntimeError,
            )
        return self._saved

    def _output(self, x: Array, place: Place) -> Array:
        """Memory for y."""
        return self._memory("y", self._shapes[1], x, place)

    def _input_gradient(self, dy: Array, place: Place) -> Array:
        """Memory for dx."""
        return self._memory("dx", self._shapes[0], dy, place)

    def _memory(self, role: str, shape: Shape, source: Array, place: Place) -> Array:
        if place is Place.IN_PLACE:
            return source
        if place is Place.FRESH:
            return aligned_empty(shape, source.dtype)
        return self._buffers.get(role, shape, source.dtype)

    def _check_input(self, x: Array) -> None:
        expected = None if self.weight is None else self.weight.data.dtype
        self._check_type(x, "x", expected, "its parameters")
        if x.shape != self._shapes[0] or x.ndim == 0:
            self._shapes = (x.shape, self._output_shape(x.shape))

    def _check_output_gradient(self, dy: Array, saved: Saved) -> None:
        self._check_type(dy, "dy", saved.dtype, "the last y")
        if dy.shape != saved.y_shape:
            self._refuse(f"dy has shape {dy.shape}; expected {saved.y_shape}, as the last y.")

    def _check_type(self, a: Array, name: str, expected: np.dtype[Any] | None, of: str) -> None:
        if type(a) is np.ndarray and a.dtype is expected:
            return  # what a training does some twenty times a step
        if not isinstance(a, np.ndarray):
            self._refuse(
                f"{name} is {kind_of(a)}; expected a NumPy array{to_write(a, name)}",
                TypeError,
            )
        if a.dtype == np.uint8 and name == "x" and expected != np.float64:
            self._refuse(
                "x is uint8; expected float32 in 0 .. 1: write x.astype(np.float32) / 255, or "
                "ops.gather_images(images, indices).",
                TypeError,
            )
        if expected is None and a.dtype not in FLOATING:
            pixels = ", or for pixels of 0 to 255 x.astype(np.float32) / 255"
            self._refuse(
                f"{name} is {a.dtype}; expected float32 or float64: write "
                f"{name}.astype(np.float32){pixels if name == 'x' else ''}.",
                TypeError,
            )
        if expected is not None and a.dtype != expected:
            self._refuse(
                f"{name} is {a.dtype}; expected {expected}, the type of {of}: "
                f"write {name}.astype(np.{expected}).",
                TypeError,
            )

    def _expect_axes(self, x: Shape, axes: str, advice: str) -> None:
        """Refuse an x with another number of axes than `axes` has, for example "[N, H, W, C]"."""
        rank = axes.count(",") + 1
        if len(x) != rank:
            self._refuse(f"x has shape {x}, {len(x)} axes; expected {rank}: {axes}: {advice}.")

    def _expect_channels(self, x: Shape, expected: int, name: str) -> None:
        """Refuse an x [N, H, W, C] with other channels than the argument `name` of the layer."""
        self._expect_axes(x, "[N, H, W, C]", "write x[None] for one image, x[..., None] for C = 1")
        if x[3] != expected:
            self._refuse(
                f"x has shape {x}, C = {x[3]} channels in [N, H, W, C]; "
                f"expected {name} = {expected}"
                + (": for [N, C, H, W] write x.transpose(0, 2, 3, 1)." if x[1] == expected else ".")
            )

    def _shape_by(self, rule: Callable[..., Shape], *arguments: Any, **keywords: Any) -> Shape:
        """`rule(...)`, one of `ops`, whose errors then name the layer."""
        try:
            return tuple(rule(*arguments, **keywords))
        except (TypeError, ValueError) as error:
            self._refuse(str(error), type(error))

    def _label(self) -> str:
        kind = type(self).__name__
        return f"layer {self._name} ({kind})" if self._name else kind

    def _refuse(self, message: str, error: type[Exception] = ValueError) -> NoReturn:
        raise error(f"{self._label()}: {message}") from None

"""A trainable array and its gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from pycnn.layers.slot import CURRENT
from pycnn.ops import prepared
from pycnn.ops.arrays import Array, kind_of, to_write


def _own(array: Array) -> Array:
    """`array`, or a copy where it cannot be changed in place by the operators."""
    usable = array.flags.c_contiguous and array.flags.aligned and array.flags.writeable
    return array if usable else array.copy(order="C")


class Parameter:
    """A trainable array `data` and the gradient `grad` of the loss with respect to it.

    Gradients add up: each backward adds to `grad`. After `zero_grad()` the gradient is *empty*:
    `grad` is None, and the next backward overwrites the old memory at no extra cost. So the array
    that `grad` returns is written to again later: copy it to keep it. `grad` and `data` can be
    assigned arrays of the same shape and type. `data` then *is* that array, but an assigned
    gradient is copied into the parameter's own memory: later backwards add to the copy, never to
    the array it came from, and `data` and `grad` share no memory. Copies and pickles have no
    gradient.

    Attributes:
        name: `"weight"` in a layer of its own, `"0.weight"` in a `Sequential`. It is the key in the
            `state_dict()` of the model whose `parameters()` was called last.
        decays: whether the weight decay of an optimizer acts on it: True for the weights of
            Conv2d and Linear, False for biases and for BatchNorm2d.
    """

    def __init__(self, data: Array, name: str = "parameter", *, decays: bool = True) -> None:
        """Own `data`, or a copy if it has gaps or is read-only; TypeError for another type."""
        if not isinstance(data, np.ndarray) or data.dtype not in (np.float32, np.float64):
            found = data.dtype if isinstance(data, np.ndarray) else kind_of(data)
            raise TypeError(
                f"Parameter {name}: data is {found}; expected a float32 or float64 array"
                + to_write(data, "data")
            )
        self.name = name
        self.decays = bool(decays)
        self._data = _own(data)
        self._forget()

    def _forget(self) -> None:
        """Drop the memory of the gradient."""
        self._grad: Array | None = None
        self._part: Array | None = None  # of a gradient that is added to another
        self._empty = True

    @property
    def data(self) -> Array:
        """The values; an optimizer changes them in place."""
        return self._data

    @data.setter
    def data(self, value: Array) -> None:
        self._check_like_data(value, "data")
        if self._grad is not None and np.may_share_memory(value, self._grad):
            value = value.copy()
        self._data = _own(value)

    @property
    def grad(self) -> Array | None:
        """The gradient, of the shape of `data`; None when empty."""
        return None if self._empty else self._grad

    @grad.setter
    def grad(self, value: Array | None) -> None:
        if value is not None:
            self._check_like_data(value, "grad")
            if self._grad is None:
                self._grad = np.empty_like(self._data)
            if value is not self._grad:  # it is after `grad *= 2`
                self._grad[...] = value
        self._empty = value is None

    def zero_grad(self) -> None:
        """Mark the gradient as empty; the next backward overwrites it."""
        self._empty = True

    def add_gradient(self, write: Callable[[Array], object]) -> None:
        """Add a gradient that `write(out)` computes into `out`, an array with arbitrary content."""
        slot = CURRENT.get()
        if slot is not None:
            slot.add_gradient(self, write)
        elif self._empty:
            if self._grad is None:
                self._grad = np.empty_like(self._data)
            write(self._grad)
            self._empty = False
        else:
            assert self._grad is not None
            if self._part is None:
                self._part = np.empty_like(self._data)
            write(self._part)
            prepared.accumulate(self._grad, self._part)

    def no_gradient(self) -> None:
        """Add a gradient of zeros: the loss does not depend on this parameter."""
        if self._empty or CURRENT.get() is not None:
            self.add_gradient(lambda out: out.fill(0))

    def astype(self, dtype: npt.DTypeLike) -> None:
        """Convert `data` in place of the old values; the gradient becomes empty."""
        self._data = self._data.astype(dtype)
        self._forget()

    def _check_like_data(self, value: Array, attribute: str) -> None:
        expected = f"{self._data.dtype} of shape {self._data.shape}"
        if not isinstance(value, np.ndarray):
            raise TypeError(
                f"Parameter {self.name}: {attribute} is {kind_of(value)}; "
                f"expected a NumPy array, {expected}."
            )
        if value.dtype != self._data.dtype or value.shape != self._data.shape:
            error = TypeError if value.dtype != self._data.dtype else ValueError
            raise error(
                f"Parameter {self.name}: {attribute} is {value.dtype} of shape {value.shape}; "
                f"expected {expected}. To fill it, write {attribute}[...] = value."
            )

    def __getstate__(self) -> dict[str, Any]:
        """What copies and pickles hold: the values, not the gradient."""
        return {"name": self.name, "data": self._data, "decays": self.decays}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Start with an empty gradient."""
        self.name, self._data = state["name"], state["data"]
        self.decays = state["decays"]
        self._forget()

    def __repr__(self) -> str:
        """For example `Parameter(0.weight, (3, 3, 1, 32), float32)`."""
        return f"Parameter({self.name}, {self._data.shape}, {self._data.dtype})"

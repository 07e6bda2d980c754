"""Where results go: memory that a layer keeps and writes again, or memory that the user gets."""

from __future__ import annotations

import enum
import math

import numpy as np
import numpy.typing as npt

from pycnn.ops.arrays import Array, aligned_empty


class Place(enum.Enum):
    """Where a layer writes a result."""

    FRESH = "a new array: it is handed to the user"
    KEPT = "the layer's own memory, overwritten by its next run"
    IN_PLACE = "the array that came in: nobody reads it again"


class Buffers:
    """Named pieces of memory that are kept from call to call.

    Each piece grows to the largest array that was asked of it; a smaller one (the last batch of an
    epoch) is a view of its beginning. Asking again for the same shape gives the same array.
    """

    def __init__(self) -> None:
        """Hold nothing yet."""
        self._storage: dict[str, Array] = {}
        self._array: dict[str, Array] = {}

    def get(self, role: str, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
        """An array with arbitrary content; it takes the memory of what `role` gave before."""
        array = self._array.get(role)
        if array is not None and array.shape == shape and array.dtype == dtype:
            return array
        size = math.prod(shape) * np.dtype(dtype).itemsize
        storage = self._storage.get(role)
        if storage is None or storage.size < size:
            self._storage.pop(role, None)
            self._array.pop(role, None)
            storage = self._storage[role] = aligned_empty((size,), np.uint8)
        self._array[role] = storage[:size].view(dtype).reshape(shape)
        return self._array[role]

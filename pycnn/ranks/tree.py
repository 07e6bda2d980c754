r"""Sums over slots along one binary tree, whoever computes which slots.

    slot    0   1   2   3   4   5   6   7
             \ /     \ /     \ /     \ /
              +       +       +       +        each + adds two arrays, element by element
               \     /         \     /
                  +               +
                   \_____   _____/
                          +

A rank owns a run of slots, so the lower part of the tree lies within it (`Tree`) and the upper part
between ranks (`exchange.Sum`). Which rank computes what, in which order messages arrive and how
long they are, then changes no addition: not a bit of any sum.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from pycnn.ops import prepared
from pycnn.ops.arrays import Array, aligned_empty

if TYPE_CHECKING:
    from pycnn.layers import Parameter

Slice = tuple[int, int]


class Tree:
    """The gradients of one rank's slots: flat arrays of all parameters, added two by two.

    A slot writes into the array on top of a stack. When it ends, the two on top become one as often
    as two whole subtrees stand there, which is as often as its number ends in ones: 0, 1, 0, 2, 0,
    1, 0, 3. So a rank of 8 slots keeps 4 arrays, not 8.
    """

    def __init__(self, slots: int) -> None:
        """For so many slots of this rank, a power of two."""
        self.slots = slots
        self.parameters: list[Parameter] = []  # in the order of their gradients
        self.places: dict[int, Slice] = {}  # by id: where each lies in the flat arrays
        self._stack: list[Array] = []  # flat arrays, of which the first `_filled` hold sums
        self._filled = 0
        self._loose: dict[int, tuple[Parameter, Array]] = {}  # those that have no place yet
        self.counts: dict[int, int] = {}  # by id: the additions of this slot
        self.slot = 0

    def begin(self) -> None:
        """A batch begins."""
        self.slot = self._filled = 0
        self.counts.clear()
        self._loose.clear()

    @property
    def last(self) -> bool:
        """Whether this is the last slot of this rank."""
        return self.slot == self.slots - 1

    def add(self, parameter: Parameter, write: Callable[[Array], object]) -> int:
        """Add to this slot's gradient of a parameter; returns how often that has happened."""
        key = id(parameter)
        count = self.counts[key] = self.counts.get(key, 0) + 1
        target = self._target(parameter)
        if count == 1:
            write(target)
        else:
            part = np.empty_like(target)
            write(part)
            prepared.accumulate(target, part)
        return count

    def _target(self, parameter: Parameter) -> Array:
        key = id(parameter)
        place = self.places.get(key)
        if place is not None:
            return self._top()[slice(*place)].reshape(parameter.data.shape)
        if key not in self._loose:
            self._loose[key] = parameter, np.empty_like(parameter.data)
        return self._loose[key][1]

    def _top(self) -> Array:
        if self._filled == len(self._stack):
            like = self._stack[0]
            self._stack.append(aligned_empty(like.shape, like.dtype))
        return self._stack[self._filled]

    def end(self) -> None:
        """The slot has all its gradients: give places to new ones, and add what belongs together.

        The last slot's sums are left to `merge`, which may have begun.
        """
        self.settle()
        if not self.last:
            self._filled += 1
            for _ in range(_trailing_ones(self.slot)):
                self._filled -= 1
                if self._stack:  # or no parameter has had a gradient so far
                    prepared.accumulate(self._stack[self._filled - 1], self._stack[self._filled])
            self.slot += 1
            self.counts = {}

    def settle(self) -> None:
        """Places for parameters that came up first in this slot; zeros for those that did not."""
        if self._loose:
            self._grow()
        for key in self.places.keys() - self.counts.keys():
            self.clear(key)

    def clear(self, key: int) -> None:
        """Zeros for a parameter that this slot does not touch."""
        start, stop = self.places[key]
        self._top()[start:stop] = 0
        self.counts.setdefault(key, 0)

    @property
    def grows(self) -> bool:
        """Whether parameters came up that have no place yet."""
        return bool(self._loose)

    def _grow(self) -> None:
        size = self._stack[0].size if self._stack else 0
        new = sum(array.size for _, array in self._loose.values())
        dtypes = {array.dtype for _, array in self._loose.values()}
        dtypes |= {self._stack[0].dtype} if self._stack else set()
        if len(dtypes) > 1:
            names = ", ".join(sorted(map(str, dtypes)))
            raise TypeError(f"Ranks: the parameters are {names}; expected one type for all.")
        (dtype,) = dtypes
        before, self._stack = self._stack, []
        for i in range(self._filled + 1):
            self._stack.append(aligned_empty((size + new,), dtype))
            self._stack[i][size:] = 0
            if i < len(before):
                self._stack[i][:size] = before[i]
        for key, (parameter, array) in self._loose.items():
            self.parameters.append(parameter)
            self.places[key] = size, size + array.size
            self._stack[-1][size : size + array.size] = array.reshape(-1)
            size += array.size
        self._loose.clear()

    def add_tree(self, other: Tree) -> None:
        """Add the sums of another tree, of the same parameters in the same order."""
        if self._stack:
            prepared.accumulate(self._stack[0], other._stack[0])

    def merge(self, part: Slice) -> Array:
        """The sum of all slots of this rank in this part of the flat arrays, in its own memory."""
        if not self._stack:
            return np.empty(0, np.float32)
        where = slice(*part)
        for low in range(self._filled - 1, -1, -1):
            prepared.accumulate(self._stack[low][where], self._stack[low + 1][where])
        return self._stack[0][where]

    def of(self, parameter: Parameter) -> Array | None:
        """The sum of a parameter's gradient, after all merges."""
        place = self.places.get(id(parameter))
        if place is None:
            return None
        return self._stack[0][slice(*place)].reshape(parameter.data.shape)

    @property
    def size(self) -> int:
        """Numbers in a flat array."""
        return self._stack[0].size if self._stack else 0


def _trailing_ones(number: int) -> int:
    return (~number & (number + 1)).bit_length() - 1


def tree_sum(parts: list[Any]) -> Any:
    """The sum of a power of two of arrays or numbers, along the tree; for tests and statistics."""
    while len(parts) > 1:
        parts = [parts[i] + parts[i + 1] for i in range(0, len(parts), 2)]
    return parts[0]

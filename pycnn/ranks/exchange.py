"""The upper part of the tree: sums between ranks, by messages that only move numbers.

`Sum` is Rabenseifner's all-reduce (2004) with a fixed order. In level l = 0, 1, .. a rank and its
partner rank ^ 2^l halve what they both hold: each sends one half and adds the other's to its own.
So neighbours add first, as in the tree. In the end each rank owns 1 / size of the sums, which then
travel back, level by level. A rank sends and receives 2 (size - 1) / size of the bytes.
"""

from __future__ import annotations

from typing import Any

from pycnn.ops import prepared
from pycnn.ops.arrays import Array


class Sum:
    """One array that all ranks add up along the tree, in place, while they do other things."""

    def __init__(
        self, comm: Any, array: Array, tag: int, space: Array, *, whole: bool = True
    ) -> None:
        """Begin; space: half as long, written to until the sum is done.

        whole: the sums travel back to all ranks; else each rank has those that it owns, until
        `send_back`.
        """
        self._comm, self.tag, self._space = comm, tag, space
        self._array = array
        self._levels = range(comm.size.bit_length() - 1)
        self._held = [(0, array.size)]  # what this rank holds, from level to level
        self._requests: list[Any] = []
        self._level = 0
        self._steps = 2 * len(self._levels)  # halvings, then the way back
        self._stop = self._steps if whole else len(self._levels)
        self._post()

    @property
    def owned(self) -> tuple[int, int]:
        """[start, stop) of the sums that this rank has after the halvings."""
        return self._held[-1]

    def send_back(self) -> None:
        """What this rank owns, the sums or what became of them, goes to all ranks."""
        self._level, self._stop = len(self._levels), self._steps
        self._post()

    def advance(self) -> bool:
        """Do what has become possible; returns whether all is done."""
        while self._level < self._stop:
            if not all(request.Test() for request in self._requests):
                return False
            self._arrived()
            self._level += 1
            self._post()
        return True

    def _halves(self) -> tuple[tuple[int, int], tuple[int, int], int]:
        """(the half that this rank keeps, the other one, the partner) of the present level."""
        back = self._level >= len(self._levels)
        level = self._steps - 1 - self._level if back else self._level
        start, stop = self._held[level]
        middle = (start + stop + 1) // 2
        halves = (start, middle), (middle, stop)
        high = self._comm.rank >> level & 1
        return halves[high], halves[1 - high], self._comm.rank ^ (1 << level)

    def _post(self) -> None:
        if self._level == self._stop:
            self._requests = []
            return
        mine, other, partner = self._halves()
        if self._level < len(self._levels):
            outgoing, incoming = self._array[slice(*other)], self._space[: mine[1] - mine[0]]
        else:
            outgoing, incoming = self._array[slice(*mine)], self._array[slice(*other)]
        self._requests = [
            self._comm.Irecv(incoming, partner, self.tag),
            self._comm.Isend(outgoing, partner, self.tag),
        ]

    def _arrived(self) -> None:
        if self._level < len(self._levels):
            mine, _, _ = self._halves()
            prepared.accumulate(self._array[slice(*mine)], self._space[: mine[1] - mine[0]])
            self._held.append(mine)

"""Where arrays lie: blocks that live at the same time lie apart in one arena.

A block is wanted from one moment of a timeline to another, both included. Blocks are placed the
largest first, each at the lowest offset at which it meets none that lives at the same time, as in
the planners of XNNPACK and TensorFlow Lite (Pisarchyk & Lee 2020, "Efficient Memory Management for
Deep Neural Net Inference", greedy by size).
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass

LINE = 64  # bytes: what sizes and offsets are multiples of, an image


@dataclass
class Block:
    """Memory of `size` bytes an image from the moment `first` to `last`; offset: where it lies."""

    size: int
    first: int
    last: int
    offset: int = -1


def lines(nbytes: int) -> int:
    """Nbytes rounded up to whole lines."""
    return -(-nbytes // LINE) * LINE


def place(blocks: Sequence[Block]) -> int:
    """Give each block its offset; returns the bytes that all of them need together."""
    order = sorted(blocks, key=lambda block: (-block.size, block.first, block.last))
    placed: list[tuple[int, int, int, int]] = []  # offset, end, first, last; by offset
    total = 0
    for block in order:
        first, last, size, at = block.first, block.last, block.size, 0
        for offset, end, begins, ends in placed:
            if begins <= last and first <= ends:
                if at + size <= offset:
                    break
                if end > at:
                    at = end
        block.offset = at
        entry = (at, at + size, first, last)
        bisect.insort(placed, entry)
        total = max(total, at + size)
    return total

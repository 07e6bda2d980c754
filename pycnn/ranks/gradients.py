"""The gradients of one rank: its part of the tree, and what travels to the others."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from pycnn.ops.arrays import Array
from pycnn.ranks.exchange import Sum
from pycnn.ranks.tree import Slice, Tree

if TYPE_CHECKING:
    from pycnn.layers import Parameter

# Bytes of gradients that travel together, at least.
BUCKET = 1 << 20

OTHER_NETWORK = (
    "Ranks: parameters got other gradients in this slot than in the one before, when some were "
    "under way to other ranks; expected the same network in each slot: write overlap=False."
)


class Gradients:
    """Takes the gradients of slots, one slot after the other or all at once, and adds them up.

    In the last slot the flat arrays are cut into buckets, in the order in which backward fills
    them; the sums of a bucket begin as soon as all its parameters have their gradients, as many as
    in the slot before.
    """

    def __init__(self, comm: Any, slots: int, *, overlap: bool, at_once: bool) -> None:
        """comm: None for one process; slots: of this rank; at_once: they are all halfway."""
        self.comm, self.overlap, self._at_once = comm, overlap and not at_once, at_once
        # Slots that are all halfway have a tree each, and are added at the end.
        self._trees = [Tree(1) for _ in range(slots)] if at_once else [Tree(slots)]
        self._tree = self._trees[0]
        self.keeps_sums = self.halves_only = False  # what `shard.py` needs
        self._usual: dict[int, int] = {}  # additions a slot, by parameter, as the last one had
        self._space = np.empty(0, np.float32)
        self.forget()

    def forget(self) -> None:
        """Nothing is under way."""
        self._sums: list[Sum] = []
        self._waiting_for: list[int] = []  # parameters that each bucket still waits for
        self._buckets: list[Slice] = []
        self._bucket_of: dict[int, int] = {}

    def begin(self) -> None:
        """A batch begins."""
        self.forget()
        for tree in self._trees:
            tree.begin()

    def begin_slot(self) -> None:
        """A slot begins."""
        if self.overlap and self._tree.last and self.comm is not None:
            self._cut_buckets()

    def add(self, parameter: Parameter, write: Callable[[Array], object], slot: int) -> None:
        """`Parameter.add_gradient` in the slot of this number, of those of this rank."""
        if self._at_once:
            self._trees[slot].add(parameter, write)
            return
        key = id(parameter)
        bucket = self._bucket_of.get(key)
        if bucket is not None and self._waiting_for[bucket] == 0:
            raise RuntimeError(OTHER_NETWORK)
        count = self._tree.add(parameter, write)
        if bucket is not None and count == self._usual.get(key):
            self._waiting_for[bucket] -= 1
            if self._waiting_for[bucket] == 0:
                self._send(bucket)
        for under_way in self._sums:
            under_way.advance()

    def end_slot(self) -> None:
        """A slot has all its gradients."""
        if self._sums and self._tree.grows:
            raise RuntimeError(OTHER_NETWORK)
        self._usual = dict(self._tree.counts)
        self._tree.end()

    def end_all(self) -> None:
        """All slots have, where they were computed at once: add them, neighbours first."""
        trees = self._trees
        for tree in trees:
            tree.end()
        half = 1
        while half < len(trees):
            for i in range(0, len(trees), 2 * half):
                trees[i].add_tree(trees[i + half])
            half *= 2

    def finish(self) -> None:
        """Wait until the sums over all slots of all ranks are there."""
        if self.comm is None:
            self._tree.merge((0, self._tree.size))
            return
        if not self._sums:
            self._usual = dict(self._tree.counts)
            self._cut_buckets()
        sent = {under_way.tag for under_way in self._sums}
        for bucket in range(len(self._buckets)):
            if bucket not in sent:
                self._send(bucket)
        self._complete()

    def _complete(self) -> None:
        """All sums go on as they can: one after the other each would wait for its own messages."""
        under_way = self._sums
        while under_way:
            under_way = [one for one in under_way if not one.advance()]
            os.sched_yield()  # to a rank that shares the core

    def _cut_buckets(self) -> None:
        tree = self._tree
        start = stop = waiting = 0
        self._buckets, self._waiting_for = [], []
        for parameter in tree.parameters:
            key = id(parameter)
            stop = tree.places[key][1]
            self._bucket_of[key] = len(self._buckets)
            if self._usual.get(key):
                waiting += 1
            else:
                tree.clear(key)
            if (stop - start) * parameter.data.itemsize >= BUCKET or stop == tree.size:
                self._buckets.append((start, stop))
                self._waiting_for.append(waiting)
                start, waiting = stop, 0

    def _send(self, bucket: int) -> None:
        array = self._tree.merge(self._buckets[bucket])
        if self._space.size < self._tree.size or self._space.dtype != array.dtype:
            self._space = np.empty(self._tree.size, array.dtype)
        space = self._space[slice(*self._buckets[bucket])]
        self._sums.append(Sum(self.comm, array, bucket, space, whole=not self.halves_only))

    def checksum(self) -> int:
        """Of the order in which parameters lie in the flat arrays: the same on all ranks."""
        parameters = self._tree.parameters
        return zlib.crc32(repr([(p.name, p.data.shape) for p in parameters]).encode())

    # ---- afterwards ----------------------------------------------------------------------------

    def find(self, parameter: Parameter) -> Array | None:
        """The sum of a parameter's gradients; None where no slot had one."""
        return self._tree.of(parameter)

    def place_of(self, parameter: Parameter) -> Slice:
        """Where a parameter lies in the flat arrays."""
        place = self._tree.places.get(id(parameter))
        if place is None:
            raise RuntimeError(
                f"Ranks: no gradient of {parameter.name}; expected one of each parameter of the "
                "optimizer in every batch."
            )
        return place

    def sum_of(self, parameter: Parameter) -> Array:
        """The place itself; what it holds where this rank does not own it means nothing."""
        self.place_of(parameter)
        found = self._tree.of(parameter)
        assert found is not None
        return found

    def owned(self) -> list[Slice]:
        """What this rank owns of the flat arrays after the halvings."""
        starts = [self._buckets[under_way.tag][0] for under_way in self._sums]
        owned = [under_way.owned for under_way in self._sums]
        return sorted((s + a, s + b) for s, (a, b) in zip(starts, owned, strict=True))

    def send_back(self) -> None:
        """The owned parts of the flat arrays go to all ranks."""
        for under_way in self._sums:
            under_way.send_back()
        self._complete()

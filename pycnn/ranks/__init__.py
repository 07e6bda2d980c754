"""Many processes train one network, and end with the same bytes as one.

A batch is cut into slots, which depend on the batch alone. Every slot's gradient is computed by
itself, and the sums are taken along one fixed tree of slots (`tree.py`, `exchange.py`). So 1, 2, 4
or 8 ranks, or one process without MPI, all do the same additions: see docs/ranks.md.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import time
from collections.abc import Callable, Iterator, Sized
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from pycnn.layers.slot import CURRENT
from pycnn.ops.arrays import Array, kind_of
from pycnn.ranks import together
from pycnn.ranks.exchange import Sum
from pycnn.ranks.slots import Slot, finish
from pycnn.ranks.tree import Slice, Tree, tree_sum
from pycnn.ranks.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pycnn.layers import Layer, Parameter
    from pycnn.optim import Optimizer

__all__ = ["Ranks", "Slot"]

Found = TypeVar("Found")

# Bytes of gradients that travel together, at least.
BUCKET = 1 << 20

OTHER_NETWORK = (
    "Ranks: parameters got other gradients in this slot than in the one before, when some were "
    "under way to other ranks; expected the same network in each slot: write overlap=False."
)


class Ranks:
    """Cuts batches into slots, and adds up what all ranks' slots have computed.

        ranks = pycnn.ranks.Ranks(MPI.COMM_WORLD, slots=8)
        ranks.broadcast(model, optimizer)              # all begin with rank 0's numbers
        for x, labels in batches:                      # the same batches on every rank
            optimizer.zero_grad()
            for slot in ranks.share(x):                # this rank's slots of it
                logits = model(x[slot.rows])
                loss, dlogits = loss_function(logits, labels[slot.rows])
                model.backward(slot.scaled(dlogits), input_gradient=False)
                slot.note(loss * slot.weight)
            (loss,) = ranks.reduce(model.parameters())
            optimizer.step()

    communicator: of mpi4py, or None for one process. slots: a power of two that the ranks divide.
    All ranks make the same calls with the same batches. overlap: whether gradients begin to travel
    while the last slot's backward still runs; it changes no number. sync_batch_norm: normalisation
    takes the mean and variance of the whole batch, not of a slot; `each` instead of `share`.

    Attributes: `rank`, `size`, `slots`; `seconds`: {"waiting", "moving"} that `reduce` has taken,
    for the slowest rank and for the numbers.

    Raises ValueError for another number of slots or of ranks, TypeError for no communicator.
    """

    def __init__(
        self,
        communicator: Any = None,
        slots: int = 8,
        *,
        overlap: bool = True,
        sync_batch_norm: bool = False,
    ) -> None:
        """Nothing is sent yet, but that mpi4py makes a communicator of our own."""
        if isinstance(slots, bool) or not isinstance(slots, (int, np.integer)) or slots < 1:
            raise ValueError(f"Ranks: slots is {slots!r}; expected a power of two: 1, 2, 4, 8 ...")
        if slots & (slots - 1):
            raise ValueError(
                f"Ranks: slots is {slots}; expected a power of two, because they are added two by "
                f"two: write {1 << slots.bit_length() - 1} or {1 << slots.bit_length()}."
            )
        self.slots, self.overlap = int(slots), bool(overlap)
        self.rank, self.size = 0, 1
        self.comm: Any = None
        if communicator is not None:
            if not hasattr(communicator, "Irecv") or not hasattr(communicator, "Dup"):
                raise TypeError(
                    f"Ranks: communicator is {kind_of(communicator)}; expected one of mpi4py, as "
                    "MPI.COMM_WORLD, or None."
                )
            self.rank, self.size = communicator.rank, communicator.size
            if self.slots % self.size:
                raise ValueError(
                    f"Ranks: {self.size} ranks and {self.slots} slots; expected ranks that divide "
                    f"the slots: {_divisors(self.slots)}. Start as many, or give more slots."
                )
            if self.size > 1:
                self.comm = communicator.Dup()
                together.share_cores(self.comm)
                together.end_all_on_error(self.comm)
        count = self.slots // self.size
        self._mine = range(self.rank * count, (self.rank + 1) * count)
        self.sync_batch_norm = bool(sync_batch_norm)
        # Slots that meet have a tree each, which are added at the end.
        self._trees = [Tree(1) for _ in self._mine] if sync_batch_norm else [Tree(count)]
        self._tree = self._trees[0]
        self._runners: dict[int, dict[int, Any]] = {number: {} for number in self._mine}
        self._turns = Turns(count, self._total)
        self.seconds = {"waiting": 0.0, "moving": 0.0}
        self._space = np.empty(0, np.float32)
        self.keeps_sums = self.halves_only = False  # what `shard.py` needs of `reduce`
        self._usual: dict[int, int] = {}  # additions a slot, by parameter, as the last batch had
        self._forget()

    def _forget(self) -> None:
        self._slots: list[Slot] = []
        self._sums: list[Sum] = []
        self._waiting_for: list[int] = []  # parameters that each bucket still waits for
        self._buckets: list[Slice] = []
        self._bucket_of: dict[int, int] = {}

    def cut(self, samples: int) -> list[Slice]:
        """[start, stop) of each slot; sizes differ by at most one, larger ones first."""
        if samples < self.slots:
            raise ValueError(
                f"Ranks: a batch of {samples} samples and {self.slots} slots; expected at least "
                "one sample a slot: use a larger batch, or fewer slots."
            )
        small, larger = divmod(samples, self.slots)
        starts = [i * small + min(i, larger) for i in range(self.slots + 1)]
        return list(itertools.pairwise(starts))

    def part(self, samples: int) -> slice:
        """Where this rank's slots lie in a batch of so many samples."""
        slots = self.cut(samples)
        return slice(slots[self._mine[0]][0], slots[self._mine[-1]][1])

    def share(self, batch: int | Sized) -> Iterator[Slot]:
        """This rank's slots of a batch, one after the other; compute each before the next.

        batch: a number of samples, or an array, or arrays of it. Raises ValueError for fewer
        samples than slots.
        """
        if self.sync_batch_norm:
            raise RuntimeError(
                "Ranks.share: with sync_batch_norm slots meet in every normalisation; expected "
                "ranks.each(batch, body), which calls body(slot) for each."
            )
        for slot in self._cut_slots(batch):
            if self._tree.last and self.overlap and self.comm is not None:
                self._cut_buckets()
            if self.slots == 1:  # then layers do what they always do
                yield slot
                return
            token = CURRENT.set(slot)
            try:
                yield slot
            finally:
                CURRENT.reset(token)
            if self._sums and self._tree.grows:
                raise RuntimeError(OTHER_NETWORK)
            if not self._tree.last:
                self._usual = self._tree.counts
            self._tree.end()

    def each(self, batch: int | Sized, body: Callable[[Slot], None]) -> None:
        """Call body(slot) for this rank's slots of a batch: `share` for a function.

        With sync_batch_norm each call runs in a thread of its own, one at a time: it waits in each
        normalisation for those of all slots.
        """
        if not self.sync_batch_norm:
            for slot in self.share(batch):
                body(slot)
            return
        slots = list(self._cut_slots(batch))

        def one(i: int) -> None:
            CURRENT.set(slots[i])
            body(slots[i])

        self._turns.run(one)
        for tree in self._trees:
            tree.end()
        half = 1
        while half < len(self._trees):
            for i in range(0, len(self._trees), 2 * half):
                self._trees[i].add_tree(self._trees[i + half])
            half *= 2

    def _cut_slots(self, batch: int | Sized) -> Iterator[Slot]:
        samples = _samples(batch)
        places = self.cut(samples)
        first = places[self._mine[0]][0]
        self._forget()
        for tree in self._trees:
            tree.begin()
        for number in self._mine:
            self._slots.append(Slot(self, number, places[number], first, samples))
            yield self._slots[-1]

    def _total(self, parts: list[Array]) -> Array:
        """The sum over all slots of what this rank's bring, along the tree."""
        total: Array = tree_sum(list(self.gather(np.stack(parts))))
        return total

    def reduce(self, parameters: Iterable[Parameter]) -> tuple[float, ...]:
        """Add the batch's gradient, the sum over all slots of all ranks, to each parameter's.

        As a backward, it adds to what is there: call zero_grad() before. Returns the sums of the
        numbers that the slots have noted.
        """
        if len(self._slots) < len(self._mine):
            raise RuntimeError(
                f"Ranks.reduce: {len(self._slots)} of {len(self._mine)} slots were computed; "
                "expected all: for slot in ranks.share(batch): ..., to its end."
            )
        began = time.perf_counter()
        numbers = self._all_numbers()
        if self.slots == 1:
            return numbers
        moving = time.perf_counter()
        self._usual = dict(self._tree.counts)
        self._finish_sums()
        finish([slot.state for slot in self._slots], self.slots, self.gather)
        for parameter in [] if self.halves_only else parameters:
            total = self._tree.of(parameter)
            if total is not None:
                parameter.add_gradient(functools.partial(_copy, total))
        self.seconds["waiting"] += moving - began
        self.seconds["moving"] += time.perf_counter() - moving
        if not self.keeps_sums:
            self._forget()
        return numbers

    # What `shard.py` asks for after a reduce.

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
        for under_way in self._sums:
            under_way.advance(wait=True)

    def broadcast(self, model: Layer, optimizer: Optimizer | None = None) -> None:
        """Give every rank the arrays of rank 0: parameters, statistics, moments, seeds."""
        if self.comm is None:
            return
        for array in dict(model.named_arrays()).values():
            self.comm.Bcast(array.view(np.uint8), 0)
        model.load_rng_state(self.comm.bcast(model.rng_state()))
        if optimizer is not None:
            state = optimizer.state_dict()
            for array in state.values():
                self.comm.Bcast(array.reshape(-1).view(np.uint8), 0)
            optimizer.load_state_dict(state)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """In here this rank does everything by itself, as one process: for what one rank draws."""
        before = self.comm, self.rank, self.size
        self.comm, self.rank, self.size = None, 0, 1
        try:
            yield
        finally:
            self.comm, self.rank, self.size = before

    def same(self, facts: dict[str, Any]) -> None:
        """Raise ValueError on all ranks unless these (JSON-able) are the same on each."""
        if self.comm is not None:
            together.same(self.comm, facts)

    def collect(self, own: list[Found], count: int) -> list[Found]:
        """All `count` things in order, of which rank r has made r, r + size, r + 2 size, ..."""
        if self.comm is None:
            return own
        everyone = self.comm.allgather(own)
        return [everyone[i % self.size][i // self.size] for i in range(count)]

    def first_of(self, wish: str | None) -> str | None:
        """The wish of the first rank that has one, or None: the same on all ranks."""
        wishing = self.gather(np.array([wish is not None]))
        if not wishing.any():
            return None
        first = int(wishing.argmax())
        return str(self.comm.bcast(wish, first))

    def told(self, value: Found) -> Found:
        """What rank 0 calls this with."""
        found: Found = value if self.comm is None else self.comm.bcast(value, 0)
        return found

    # ---- gradients -----------------------------------------------------------------------------

    def _cut_buckets(self) -> None:
        """Parts of the flat arrays, in the order in which backward fills them."""
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

    def _add_gradient(
        self, parameter: Parameter, write: Callable[[Array], object], slot: Slot
    ) -> None:
        if self.sync_batch_norm:
            self._trees[slot.number - self._mine[0]].add(parameter, write)
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

    def _send(self, bucket: int) -> None:
        assert self.comm is not None
        array = self._tree.merge(self._buckets[bucket])
        if self._space.size < self._tree.size or self._space.dtype != array.dtype:
            self._space = np.empty(self._tree.size, array.dtype)
        start, stop = self._buckets[bucket]
        space = self._space[start:stop]
        self._sums.append(Sum(self.comm, array, bucket, space, whole=not self.halves_only))

    def _finish_sums(self) -> None:
        tree = self._tree
        if self.comm is None:
            tree.merge((0, tree.size))
            return
        if not self._sums:
            self._cut_buckets()
        sent = {under_way.tag for under_way in self._sums}
        for bucket in range(len(self._buckets)):
            if bucket not in sent:
                self._send(bucket)
        for under_way in self._sums:
            under_way.advance(wait=True)

    # ---- the rest ------------------------------------------------------------------------------

    def _all_numbers(self) -> tuple[float, ...]:
        lengths = {len(slot.numbers) for slot in self._slots}
        if len(lengths) > 1:
            raise ValueError(
                f"Ranks: slots have noted {' and '.join(map(str, sorted(lengths)))} numbers; "
                "expected as many in each."
            )
        own = np.array([slot.numbers for slot in self._slots], np.float64)
        everyone = self.gather(own)
        total = np.zeros(own.shape[1], np.float64)
        for numbers in everyone:  # in the order of slots
            total += numbers
        return tuple(total.tolist())

    def gather(self, own: Array) -> Array:
        """The rows of all ranks, in their order; every rank has as many."""
        if self.comm is None or not own.size:
            return own
        own = np.ascontiguousarray(own)
        everyone = np.empty((self.size * len(own), *own.shape[1:]), own.dtype)
        self.comm.Allgather(own.view(np.uint8), everyone.view(np.uint8))
        return everyone


def _copy(source: Array, target: Array) -> None:
    np.copyto(target, source)


def _samples(batch: Any) -> int:
    if isinstance(batch, (int, np.integer)) and not isinstance(batch, bool):
        return int(batch)
    if isinstance(batch, (tuple, list)) and batch and all(hasattr(a, "shape") for a in batch):
        lengths = {len(array) for array in batch}
        if len(lengths) > 1:
            raise ValueError(
                f"Ranks: arrays of {', '.join(map(str, sorted(lengths)))} samples; expected as "
                "many in each."
            )
        return lengths.pop()
    if not hasattr(batch, "__len__"):
        raise TypeError(
            f"Ranks: batch is {kind_of(batch)}; expected a number of samples, or arrays of them."
        )
    return len(batch)


def _divisors(number: int) -> str:
    return ", ".join(str(1 << i) for i in range(number.bit_length()))

"""Many processes train one network, and end with the same bytes as one.

A batch is cut into slots, which depend on the batch alone. Every slot's gradient is computed by
itself, and the sums are taken along one fixed tree of slots (`tree.py`, `exchange.py`). So 1, 2, 4
or 8 ranks, or one process without MPI, all do the same additions: see docs/ranks.md.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
import time
from collections.abc import Callable, Iterator, Sized
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np

from pycnn._runtime.checks import is_whole
from pycnn.layers.slot import CURRENT
from pycnn.ops.arrays import Array, kind_of
from pycnn.ranks import together
from pycnn.ranks.gradients import Gradients
from pycnn.ranks.slots import Slot, finish
from pycnn.ranks.tree import Slice, tree_sum
from pycnn.ranks.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pycnn.layers import Layer, Parameter
    from pycnn.optim import Optimizer

__all__ = ["Ranks", "Slot"]

Found = TypeVar("Found")
Weigh: TypeAlias = Callable[[slice], float]


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

    Attributes: `rank`, `size`, `slots`; `seconds`: {"computing", "waiting", "moving"} of all
    batches so far: from `share` to `reduce`, for the slowest rank, and for what had not travelled
    before.

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
        if not is_whole(slots, 1):
            raise ValueError(f"Ranks: slots is {slots!r}; expected a power of two: 1, 2, 4, 8 ...")
        if slots & (slots - 1):
            raise ValueError(
                f"Ranks: slots is {slots}; expected a power of two, because they are added two by "
                f"two: write {1 << slots.bit_length() - 1} or {1 << slots.bit_length()}."
            )
        self.slots = int(slots)
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
        self.gradients = Gradients(
            self.comm, count, overlap=bool(overlap), at_once=self.sync_batch_norm
        )
        self._runners: dict[int, dict[int, Any]] = {number: {} for number in self._mine}
        self._turns = Turns(count, self._total)
        self.seconds = {"computing": 0.0, "waiting": 0.0, "moving": 0.0}
        self._began = 0.0
        self._slots: list[Slot] = []
        self._ended = 0  # slots of this batch

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

    def share(self, batch: int | Sized, weigh: Weigh | None = None) -> Iterator[Slot]:
        """This rank's slots of a batch, one after the other; compute each before the next.

        batch: a number of samples, or an array, or arrays of it. weigh: where samples weigh
        differently, what some of this rank's (a slice, `Slot.here`) weigh together: a slot's weight
        is its part of that in the batch. Raises ValueError for fewer samples than slots.
        """
        if self.sync_batch_norm:
            raise RuntimeError(
                "Ranks.share: with sync_batch_norm slots meet in every normalisation; expected "
                "ranks.each(batch, body), which calls body(slot) for each."
            )
        for slot in self._cut_slots(batch, weigh):
            if self.slots == 1:  # then layers do what they always do
                self._ended = 1
                yield slot
                return
            self.gradients.begin_slot()
            token = CURRENT.set(slot)
            try:
                yield slot
            finally:
                CURRENT.reset(token)
            self.gradients.end_slot()
            self._ended += 1

    def each(
        self, batch: int | Sized, body: Callable[[Slot], None], weigh: Weigh | None = None
    ) -> None:
        """Call body(slot) for this rank's slots of a batch: `share` for a function.

        With sync_batch_norm each call runs in a thread of its own, one at a time: it waits in each
        normalisation for those of all slots.
        """
        if not self.sync_batch_norm:
            for slot in self.share(batch, weigh):
                body(slot)
            return
        slots = list(self._cut_slots(batch, weigh))

        def one(i: int) -> None:
            CURRENT.set(slots[i])
            body(slots[i])

        self._turns.run(one)
        self.gradients.end_all()
        self._ended = len(slots)

    def _cut_slots(self, batch: int | Sized, weigh: Weigh | None) -> Iterator[Slot]:
        samples = _samples(batch)
        places = self.cut(samples)
        first = places[self._mine[0]][0]
        weights = [float(stop - start) for start, stop in places]
        if weigh is not None:
            own = [weigh(slice(a - first, b - first)) for a, b in (places[i] for i in self._mine)]
            weights = self.gather(np.array(own, np.float64)).tolist()
        total = math.fsum(weights)
        self.gradients.begin()
        self._slots, self._ended, self._began = [], 0, time.perf_counter()
        for number in self._mine:
            self._slots.append(Slot(self, number, places[number], first, weights[number], total))
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
        if self._ended < len(self._mine):
            raise RuntimeError(
                f"Ranks.reduce: {self._ended} of {len(self._mine)} slots were computed; "
                "expected all: for slot in ranks.share(batch): ..., to its end."
            )
        began = time.perf_counter()
        numbers = self._all_numbers(self._same_network())
        if self.slots == 1:
            return numbers
        moving = time.perf_counter()
        self.gradients.finish()
        finish([slot.state for slot in self._slots], self.slots, self.gather)
        for parameter in [] if self.gradients.halves_only else parameters:
            total = self.gradients.find(parameter)
            if total is not None:
                parameter.add_gradient(functools.partial(_copy, total))
        self.seconds["computing"] += began - self._began
        self.seconds["waiting"] += moving - began
        self.seconds["moving"] += time.perf_counter() - moving
        if not self.gradients.keeps_sums:
            self.gradients.forget()
        self._slots, self._ended = [], 0
        return numbers

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

    def end(self, error: SystemExit) -> None:
        """A rank that leaves by sys.exit ends the job; the others would wait for it."""
        if self.comm is not None:
            code = error.code if isinstance(error.code, int) else 1
            together.abort(self.comm, code or 1)

    def told(self, value: Found) -> Found:
        """What rank 0 calls this with."""
        found: Found = value if self.comm is None else self.comm.bcast(value, 0)
        return found

    def _same_network(self) -> list[list[int]]:
        """Of each slot what must be the same in all: of the rank's gradients, and of its layers."""
        if self.slots == 1:
            return [[]]
        order = self.gradients.checksum()
        return [[order, *slot.state.counts()] for slot in self._slots]

    def _all_numbers(self, same: list[list[int]]) -> tuple[float, ...]:
        lengths = {len(slot.numbers) for slot in self._slots}
        if len(lengths) > 1:
            raise ValueError(
                f"Ranks: slots have noted {' and '.join(map(str, sorted(lengths)))} numbers; "
                "expected as many in each."
            )
        rows = [[*slot.numbers, *more] for slot, more in zip(self._slots, same, strict=True)]
        everyone = self.gather(np.array(rows, np.float64))
        count = lengths.pop()
        if (everyone[:, count:] != everyone[0, count:]).any():
            raise RuntimeError(
                "Ranks.reduce: slots used other parameters in another order, or normalisation or "
                "dropout in some slots only; expected the same network in each slot."
            )
        total = np.zeros(count, np.float64)
        for numbers in everyone:  # in the order of slots
            total += numbers[:count]
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
    if is_whole(batch):
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

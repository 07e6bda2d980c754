"""Where the batches of an epoch come from: arrays, or an iterable of the user's."""

from __future__ import annotations

import inspect
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from itertools import islice
from typing import Any, NoReturn, TypeAlias

import numpy as np

from pycnn.augment import Mixup
from pycnn.datasets import Split
from pycnn.ops.arrays import Array, kind_of
from pycnn.trainer.data import described, is_array, samples_of, some
from pycnn.trainer.targets import Batch, batch_of

# (x, rows, out, number of the batch in an iterable, from 1) -> float32 [len(rows), ...]
Gather: TypeAlias = Callable[[Array, Array, Array, int], Array]
Part: TypeAlias = Callable[[int], slice]  # of a batch of so many samples: those of this rank
Check: TypeAlias = Callable[[Batch, bool], None]  # (batch, whether it is the first)


class ArrayBatches:
    """Batches of arrays in an order drawn from (seed, epoch).

    An epoch is n // size of them, or the first `steps` of its order, so other samples in each. The
    arrays may be maps of files: only the rows of a batch are read.
    """

    again = True  # an epoch can be asked for by its number
    steps: int

    def __init__(
        self,
        data: Batch,
        size: int,
        seed: int,
        augmented: bool,
        steps: int | None = None,
    ) -> None:
        """Keep the arrays; x is copied only where it has gaps and augmentation needs it whole."""
        x = data.x
        self.gaps = not (x.flags.c_contiguous and x.flags.aligned)
        if self.gaps and augmented:
            if isinstance(x, np.memmap):
                raise ValueError(
                    "Trainer.fit: augmentation with a memory map that is not in C order, which "
                    "would be read whole; expected one in C order: save it again with "
                    "np.save(path, np.ascontiguousarray(x)), or leave augmentation out."
                )
            x, self.gaps = np.ascontiguousarray(x), False
        assert data.targets is not None
        self.x, self.labels, self.weights = x, data.targets, data.weights
        self.size, self.seed = size, seed
        self.steps = steps or len(x) // size
        self.seen = 0

    def identity(self) -> list[int]:
        """What a run goes on with: the number of samples, check sums, the size of batches.

        And the number of steps, where an epoch is not all samples.
        """
        of_weights = 0 if self.weights is None else _sum(self.weights)
        sums = [_sum(self.labels, of_weights), _sum(self.x[:1000])]
        cut = [self.steps] if self.steps < len(self.x) // self.size else []
        return [len(self.x), *sums, self.size, *cut]

    def batches(
        self,
        epoch: int,
        first: int,
        gather: Gather,
        check: Check,
        part: Part,
        mixup: Mixup | None = None,
    ) -> Iterator[tuple[Batch, int]]:
        """(batch, samples of all ranks) of steps `first`, ... of an epoch.

        x is overwritten by the next one; only the `part` of this rank is read. `check` saw the
        arrays as a whole, before fit began.
        """
        order = np.random.default_rng([self.seed, 1, epoch]).permutation(len(self.x))
        places = _places(part(self.size), self.size, mixup)
        all_rows = np.arange(len(places))
        shares = None if mixup is None else mixup.shares(len(self.x))
        out = np.empty((len(all_rows), *self.x.shape[1:]), np.float32)
        self.seen = self.steps * self.size
        for start in range(first * self.size, self.seen, self.size):
            rows = order[start + places]
            x, which = (self.x[rows], all_rows) if self.gaps else (self.x, rows)
            x, labels = gather(x, which, out, 0), self.labels[rows]
            if mixup is not None and shares is not None:
                x, labels = mixup.mix(x, labels, shares[rows[:-1]])
            weights = None if self.weights is None else self.weights[rows[: len(x)]]
            yield Batch(x, labels, weights), self.size


class Stream:
    """The batches of an iterable, or of a function that returns one; they have sizes of their own.

    steps: of an epoch, if it is known; more batches are left alone. A function is called for each
    epoch, with its number if it takes an argument; an object with `set_epoch` is told the number.
    """

    def __init__(
        self,
        data: Any,
        name: str,
        steps: int | None = None,
        pairs: bool = True,
        classes: bool | None = True,
    ) -> None:
        """Raises TypeError for what gives no batches; `pairs`: they need labels.

        classes: what kind of them, as in `targets_of`.
        """
        listed = isinstance(data, (list, tuple))
        iterable = hasattr(data, "__iter__") or hasattr(data, "__getitem__")
        wrong = isinstance(data, (str, bytes, Mapping, Set)) or is_array(data)
        if listed and pairs:
            wrong = not data or not all(_is_pair(batch) for batch in data)
        if wrong or not (iterable or callable(data)):
            _refuse(data, name, pairs)
        self.data, self.name, self.pairs, self.classes = data, name, pairs, classes
        self._call = not iterable
        self._takes_epoch = self._call and _takes_epoch(data, name)
        self.once = hasattr(data, "__next__")
        self.again = listed or self._takes_epoch or hasattr(data, "set_epoch")
        self.steps = steps if steps is not None or self._call else _length(data)
        self.seen = 0

    def identity(self) -> list[int]:
        """What a run goes on with: the number of batches, 0 if it is not known."""
        return [self.steps or 0]

    def given(self, epoch: int) -> Iterator[Batch]:
        """Each batch, as arrays; without pairs they have x alone."""
        if hasattr(self.data, "set_epoch"):
            self.data.set_epoch(epoch)
        data = self.data
        if self._call:
            data = data(epoch) if self._takes_epoch else data()
            if not isinstance(data, Iterable):
                raise TypeError(
                    f"Trainer: {self.name} returned {described(data)}; expected batches: a "
                    "generator function (yield x, labels), or one that returns an iterable."
                )
        for batch in islice(data, self.steps):
            if _is_pair(batch):
                x = samples_of(batch[0], f"x in a batch of {self.name}")
                yield batch_of(batch, self.name, self.classes, x) if self.pairs else Batch(x)
            elif self.pairs:
                raise TypeError(
                    f"Trainer: {self.name} gave {described(batch)}; expected batches, each a pair "
                    "(x, labels)."
                )
            else:
                yield Batch(samples_of(batch, f"x in a batch of {self.name}"))

    def batches(
        self,
        epoch: int,
        first: int,
        gather: Gather,
        check: Check,
        part: Part,
        mixup: Mixup | None = None,
    ) -> Iterator[tuple[Batch, int]]:
        """(batch, samples of all ranks) of steps `first`, ... of an epoch.

        x is overwritten by the next one.
        """
        self.seen, out = 0, np.empty(0, np.float32)
        for step, batch in enumerate(self.given(epoch)):
            x, n = batch.x, len(batch)
            some(x, f"a batch of {self.name}")
            self.seen += n
            if step >= first:
                assert batch.targets is not None
                check(batch, step == 0)
                rows = _places(part(n), n, mixup)
                if out.shape != (len(rows), *x.shape[1:]):
                    out = np.empty((len(rows), *x.shape[1:]), np.float32)
                x, labels = gather(x, rows, out, step + 1), batch.targets[rows]
                if mixup is not None:
                    x, labels = mixup.mix(x, labels, mixup.shares(n, step + 1)[rows[:-1]])
                weights = None if batch.weights is None else batch.weights[rows[: len(x)]]
                yield Batch(x, labels, weights), n


Source: TypeAlias = ArrayBatches | Stream


def _places(mine: slice, size: int, mixup: Mixup | None) -> Array:
    """Where this rank's samples lie in the batch; for mixup with the one behind them.

    Behind the last one of a batch is its first. So what a sample is mixed with depends on the
    batch, not on slots or ranks.
    """
    return np.arange(mine.start, mine.stop + (mixup is not None)) % size


def _sum(array: Array, start: int = 0) -> int:
    return zlib.crc32(np.ascontiguousarray(array).data, start)


def arrays_of(data: Any, name: str, classes: bool | None) -> Batch | None:
    """The samples, labels and perhaps weights of a split or a tuple; None for batches."""
    if isinstance(data, Split):
        data = data.images, data.labels
    if not (isinstance(data, (tuple, list)) and len(data) in (2, 3)) or _is_pair(data[0]):
        return None
    return batch_of(data, name, classes, samples_of(data[0], f"{name} x"))


def inputs_of(x: Any) -> Any:
    """The samples of an array, a split or a pair; None for batches."""
    if isinstance(x, Split):
        return x.images
    if _is_pair(x) and np.ndim(x[1]) < max(2, np.ndim(x[0])):
        return x[0]
    return x if is_array(x) else None


def pieces(data: Batch, size: int) -> Iterator[Batch]:
    """Views of `size` samples, one after the other."""
    return (data.part(slice(first, first + size)) for first in range(0, len(data), size))


def _is_pair(batch: object) -> bool:
    return isinstance(batch, (tuple, list)) and len(batch) in (2, 3) and is_array(batch[0])


def _length(data: Any) -> int | None:
    try:
        return len(data)
    except TypeError:  # no length, or, of a loader, none that it knows
        return None


def _takes_epoch(function: Callable[..., Any], name: str) -> bool:
    """Whether a function wants the number of the epoch."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # of a builtin
        return False
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    needed = [p for p in positional if p.default is p.empty]
    if len(needed) > 1:
        raise TypeError(
            f"Trainer: {name} is a function of {len(needed)} arguments; expected none, or the "
            f"number of the epoch: write lambda epoch: {getattr(function, '__name__', 'f')}(...)."
        )
    return bool(needed) or any(p.name == "epoch" for p in positional)


def _refuse(data: object, name: str, pairs: bool) -> NoReturn:
    if not pairs:
        raise TypeError(
            f"Trainer: {name} is {described(data)}; expected an array [n, ...], or an iterable of "
            "such arrays."
        )
    found = f"{described(data)} without labels" if is_array(data) else kind_of(data)
    raise TypeError(
        f"Trainer: {name} is {found}; expected a split of load_mnist, (x, labels), or batches: an "
        "iterable of such pairs, or a function that returns one."
    )

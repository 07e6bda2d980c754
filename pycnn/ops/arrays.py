"""Array habits shared by the operators: aligned memory, visible conversion, options as tuples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from pycnn._runtime.checks import is_choice, is_number, is_whole

Array: TypeAlias = npt.NDArray[Any]
Pair: TypeAlias = int | Sequence[int]
Padding: TypeAlias = str | int | Sequence[int] | Sequence[Sequence[int]]

LARGEST = 2**31 - 1  # of every size and option: no product of two of them overflows 64 bits
_LINE = 64  # bytes in a cache line; a 64-byte load that crosses one counts twice


def aligned_empty(shape: tuple[int, ...], dtype: npt.DTypeLike = np.float32) -> Array:
    """`np.empty` that starts at a multiple of 64 bytes."""
    kind = np.dtype(dtype)
    count = math.prod(shape)
    if count * kind.itemsize < 4 * _LINE:
        return np.empty(shape, kind)
    room = np.empty(count + _LINE // kind.itemsize, kind)
    start = -room.ctypes.data % _LINE // kind.itemsize
    return room[start : start + count].reshape(shape)


def kind_of(value: object) -> str:
    """What a sentence calls a value that is no array: "None", "a str", "an int"."""
    name = type(value).__name__
    return "None" if value is None else f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def to_write(value: object, name: str) -> str:
    """The end of a sentence on a value that is no float32 array, but may hold its numbers."""
    hopeless = value is None or isinstance(value, str)
    return "." if hopeless else f": write np.asarray({name}, np.float32)."


def _numbers(x: npt.ArrayLike, op: str, name: str) -> Array:
    """X as an array; what holds other things than numbers, None or a str for example, is refused.

    An array of any type passes: C++ names the types that it computes.
    """
    if isinstance(x, np.ndarray):
        return x
    try:
        array = np.asarray(x)
    except ValueError as error:  # rows of different lengths
        raise ValueError(f"{op}: {name} is {kind_of(x)} that makes no array: {error}") from None
    if array.dtype.kind not in "biufc":
        held = " that holds other things than numbers" if array.ndim else ""
        raise TypeError(
            f"{op}: {name} is {kind_of(x)}{held}; expected a NumPy array, or numbers in lists."
        )
    return array


def contiguous(x: npt.ArrayLike, op: str, name: str) -> Array:
    """X itself if it is an aligned array without gaps, else a copy that is.

    This is the one place where the operators convert an input; its type never changes.
    """
    array = _numbers(x, op, name)
    if array.flags.c_contiguous and array.flags.aligned:
        return array
    return np.require(array, requirements=["C", "A"])


def inputs(op: str, **arrays: npt.ArrayLike) -> list[Array]:
    """Each array `contiguous`, in the order given."""
    return [contiguous(array, op, name) for name, array in arrays.items()]


def _items(value: object) -> tuple[Any, ...] | None:
    """What a tuple, a list or an array holds; None for a single value."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    return tuple(value) if isinstance(value, (tuple, list)) else None


def count(value: int, op: str, name: str) -> int:
    """An int of at least 1."""
    if not is_whole(value, 1, LARGEST):
        raise ValueError(f"{op}: {name} is {value!r}; expected an int from 1 to 2**31 - 1.")
    return int(value)


def pair(value: Pair, op: str, name: str, least: int = 1) -> tuple[int, int]:
    """An int, (h, w) or the lecture's [1, h, w, 1] as (h, w), each at least `least`."""
    items = (value, value) if is_whole(value) else _items(value) or ()
    if len(items) == 4 and all(is_whole(end, 1, 1) for end in (items[0], items[3])):
        items = items[1:3]
    if len(items) != 2 or not all(is_whole(item, least, LARGEST) for item in items):
        raise ValueError(
            f"{op}: {name} is {value!r}; expected an int from {least} to 2**31 - 1, a pair (h, w) "
            "of them, or [1, h, w, 1]."
        )
    return int(items[0]), int(items[1])


def four_sided(value: Padding, op: str) -> tuple[int, int, int, int] | None:
    """Padding as (top, bottom, left, right); None stands for SAME."""
    message = (
        f'{op}: padding is {value!r}; expected "same", "valid", an int, a pair (h, w) or '
        "((top, bottom), (left, right)), all from 0 to 2**31 - 1."
    )
    if isinstance(value, str):
        if value.lower() == "same":
            return None
        if value.lower() == "valid":
            return (0, 0, 0, 0)
        raise ValueError(message)
    sides: list[Any] = []
    for axis in (value, value) if is_whole(value) else _items(value) or ():
        ends = (axis, axis) if is_whole(axis) else _items(axis) or ()
        sides += ends if len(ends) == 2 else [None] * 4  # too many sides are refused
    if len(sides) != 4 or not all(is_whole(side, 0, LARGEST) for side in sides):
        raise ValueError(message)
    top, bottom, left, right = (int(side) for side in sides)
    return top, bottom, left, right


def is_nchw(data_format: str, op: str) -> bool:
    """True for "NCHW", False for "NHWC"; anything else is refused."""
    if is_choice(data_format, ("NHWC", "NCHW")):
        return data_format == "NCHW"
    raise ValueError(f'{op}: data_format is {data_format!r}; expected "NHWC" or "NCHW".')


# As in the registry, csrc/ops/conv2d/conv2d.cpp, which says what each computes.
ALGORITHMS = (
    "auto",
    "depthwise",
    "grouped",
    "few_channels",
    "winograd",
    "direct",
    "im2col",
    "naive",
)


def algorithm_name(algorithm: str, op: str) -> str:
    """The name itself; C++ knows which shapes each one computes."""
    if is_choice(algorithm, ALGORITHMS):
        return algorithm
    names = ", ".join(f'"{name}"' for name in ALGORITHMS)
    raise ValueError(f"{op}: algorithm is {algorithm!r}; expected one of {names}.")


def flag(value: bool, op: str, name: str) -> bool:
    """True or False, nothing that only acts like them."""
    if not isinstance(value, (bool, np.bool_)):
        raise ValueError(f"{op}: {name} is {value!r}; expected True or False.")
    return bool(value)


def number(value: object) -> float:
    """A real number as a float; NaN, which every range refuses, for anything else."""
    array = isinstance(value, np.ndarray) and value.ndim == 0 and value.dtype.kind in "iuf"
    if not array and not is_number(value):
        return math.nan
    try:
        return float(value)  # type: ignore[arg-type]
    except OverflowError:
        return math.inf


def check_updated(op: str, **arrays: Array) -> None:
    """Refuse what is no array where an operator writes in place."""
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):
            raise TypeError(
                f"{op}: {name} is {kind_of(array)}; expected a NumPy array, "
                "since it is updated in place."
            )


def as_int64(values: Array, op: str, name: str, error: type[Exception], expected: str) -> Array:
    """Integers as int64; those that need 64 bits without a sign are refused, not wrapped."""
    if values.dtype.kind == "u" and values.dtype.itemsize == 8:
        wrong = np.flatnonzero(values > np.uint64(2**63 - 1))
        if wrong.size:
            row = int(wrong[0])
            raise error(f"{op}: {name}[{row}] is {values.flat[row]}; expected {expected}.")
    return values.astype(np.int64, copy=False)


def nhwc_shape(shape: Sequence[int], nchw: bool) -> tuple[int, ...]:
    """The shape in N H W C order."""
    if nchw and len(shape) == 4:
        n, c, h, w = shape
        return (n, h, w, c)
    return tuple(shape)


def to_nhwc(x: npt.ArrayLike, nchw: bool, op: str, name: str) -> Array:
    """X as a contiguous NHWC array: a copy where it is NCHW."""
    array = _numbers(x, op, name)
    turned = array.transpose(0, 2, 3, 1) if nchw and array.ndim == 4 else array
    return contiguous(turned, op, name)


def check_size(shape: tuple[int, ...], op: str) -> None:
    """Refuse a result that no memory can hold."""
    if math.prod(shape) >= 2**58:
        raise ValueError(
            f"{op}: the result would have shape {shape}, more numbers than memory can hold; "
            "expected smaller sizes or options, for example of padding."
        )


class Result:
    """Where an operator writes: `out`, or a fresh array; through a copy where the result is NCHW.

    `array` is what the operator writes to, NHWC; `finish()` returns what the caller gets.
    """

    def __init__(
        self, out: Array | None, shape: tuple[int, ...], like: npt.DTypeLike, op: str, nchw: bool
    ) -> None:
        """Check `out`, or make the array; nchw: whether the caller's arrays are."""
        if out is not None and not isinstance(out, np.ndarray):
            raise TypeError(f"{op}: out is {kind_of(out)}; expected a NumPy array.")
        if out is None:
            check_size(shape, op)
        self._out, self._nchw = out, nchw
        if not nchw:
            self.array = aligned_empty(shape, like) if out is None else out
            return
        self.array = aligned_empty(shape, like)
        if out is not None:
            n, h, w, c = shape
            _check_out(out, (n, c, h, w), np.dtype(like), op)

    def finish(self) -> Array:
        """The result in the caller's layout, in `out` if there was one."""
        if not self._nchw:
            return self.array
        turned = self.array.transpose(0, 3, 1, 2)
        if self._out is None:
            return np.ascontiguousarray(turned)
        self._out[...] = turned
        return self._out


def _check_out(out: Array, shape: tuple[int, ...], dtype: np.dtype[Any], op: str) -> None:
    """What array_check.h asks of an NHWC `out`, for an NCHW one, which never reaches C++."""
    if out.dtype != dtype:
        raise TypeError(f"{op}: out is {out.dtype}; expected {dtype} as the inputs.")
    if out.shape != shape:
        raise ValueError(f"{op}: out has shape {out.shape}; expected {shape} [N, C, H, W].")
    if not (out.flags.c_contiguous and out.flags.aligned):
        raise ValueError(f"{op}: out is not C-contiguous and aligned; pass a fresh array.")
    if not out.flags.writeable:
        raise ValueError(f"{op}: out is read-only; expected an array that can be written to.")


def check_apart_nchw(out: Array | None, nchw: bool, op: str, **inputs: Array | None) -> None:
    """Refuse an NCHW `out` that shares memory with an input, as C++ does for NHWC."""
    if out is None or not nchw:
        return
    for name, array in inputs.items():
        if array is not None and np.may_share_memory(out, array):
            raise ValueError(f"{op}: out shares memory with {name}; pass a fresh array.")


def shape4(shape: Sequence[int], op: str, name: str, axes: str) -> tuple[int, ...]:
    """A shape given by the caller as a tuple of four ints."""
    items = _items(shape) or ()
    if len(items) != 4 or not all(is_whole(item, 0, LARGEST) for item in items):
        raise ValueError(
            f"{op}: {name} is {shape!r}; expected four sizes {axes}, none above 2**31 - 1."
        )
    return tuple(int(item) for item in items)


def are_bytes_as_floats(images: Array) -> bool:
    """Whether float images [n, ...] look like bytes that were cast: 0, 1, 2 .. in the first 1000.

    Images in 0 .. 1 have no number above 2, standardised ones have negative ones and fractions.
    """
    first = images[:1000]
    if images.dtype.kind != "f" or first.size == 0 or not (first.min() >= 0 and first.max() > 2):
        return False
    return bool((first == np.floor(first)).all())

"""Tables of taps: which pixels of one axis a pixel of the result sums, and with which weights.

Resizing and rims that repeat the image are two tables, of rows and of columns; the gradient is the
same with both turned round. C++ adds up (`csrc/ops/maps/resample.cpp`), called in `resized.py`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from pycnn._runtime.checks import is_choice
from pycnn.ops.arrays import LARGEST, Array

MODES = "nearest", "bilinear", "bicubic"
NEAREST = "round_prefer_floor", "round_prefer_ceil", "floor", "ceil"
COORDINATES = (
    "half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "half_pixel_symmetric",
    "tf_crop_and_resize",
)  # fmt: skip
RIMS = "reflect", "edge", "wrap"


@dataclass(frozen=True, eq=False)
class Taps:
    """Output i is the sum of weight[t] * input[index[t]] over first[i] <= t < first[i + 1]."""

    inputs: int
    first: Array
    index: Array
    weight: Array

    @property
    def arrays(self) -> tuple[Array, Array, Array]:
        """As C++ takes them."""
        return self.first, self.index, self.weight

    @property
    def outputs(self) -> int:
        """How many."""
        return len(self.first) - 1

    def turned(self) -> Taps:
        """The table of the gradient: the outputs that an input went to, in their order."""
        order = np.argsort(self.index, kind="stable")
        output = np.repeat(np.arange(self.outputs), np.diff(self.first))
        counts = np.bincount(self.index, minlength=self.inputs)
        first = np.concatenate([[0], np.cumsum(counts)])
        return Taps(self.outputs, first, output[order], self.weight[order])


def table(inputs: int, taps: Sequence[Sequence[tuple[int, float]]]) -> Taps:
    """From (index, weight) of each output: an index that comes twice is one tap."""
    first, index, weight = [0], list[int](), list[float]()
    for pairs in taps:
        sums: dict[int, float] = {}
        for i, w in pairs:
            sums[i] = sums.get(i, 0.0) + w
        kept = [(i, w) for i, w in sums.items() if w != 0]
        index += [i for i, _ in kept]
        weight += [w for _, w in kept]
        first.append(len(index))
    whole = np.array(first, np.int64), np.array(index, np.int64)
    return Taps(inputs, *whole, np.array(weight, np.float64))


@functools.lru_cache(maxsize=64)
def rim(n: int, before: int, after: int, mode: str) -> Taps:
    """Pixels with a rim of their own."""
    most = {"reflect": n - 1, "wrap": n}.get(mode, LARGEST)
    if max(before, after) > most:
        raise ValueError(
            f"padding is {max(before, after)} of an axis of {n}; expected at most {most} for "
            f'mode = "{mode}".'
        )
    where = range(-before, n + after)
    if mode == "edge":
        found = [min(max(i, 0), n - 1) for i in where]
    elif mode == "wrap":
        found = [i % n for i in where]
    else:
        found = [n - 1 - abs(n - 1 - abs(i)) for i in where]
    return table(n, [[(i, 1.0)] for i in found])


class Axis(NamedTuple):
    """How an axis is resized, as in ONNX."""

    mode: str = "nearest"
    coordinates: str = "half_pixel"
    nearest: str = "round_prefer_floor"
    antialias: bool = False
    cubic: float = -0.75
    exclude_outside: bool = False

    def checked(self) -> Axis:
        """Itself; ValueError for another name."""
        for name, value, names in (
            ("mode", self.mode, MODES),
            ("coordinates", self.coordinates, COORDINATES),
            ("nearest", self.nearest, NEAREST),
        ):
            if not is_choice(value, names):
                words = ", ".join(f'"{word}"' for word in names)
                raise ValueError(f"{name} is {value!r}; expected one of {words}.")
        return self

    def place(self, i: int, n: int, outputs: int, scale: float, roi: tuple[float, float]) -> float:
        """Where output i lies among n pixels."""
        width = scale * n
        if self.coordinates == "align_corners":
            return 0.0 if width == 1 else i * (n - 1) / (width - 1)
        if self.coordinates == "asymmetric":
            return i / scale
        if self.coordinates == "tf_crop_and_resize":
            step = 0.5 if width == 1 else i / (width - 1)
            return (step * (roi[1] - roi[0]) + roi[0]) * (n - 1)
        if self.coordinates == "pytorch_half_pixel" and width == 1:
            return -0.5
        symmetric = self.coordinates == "half_pixel_symmetric"
        offset = n / 2 * (1 - outputs / width) if symmetric else 0.0
        return offset + (i + 0.5) / scale - 0.5

    def weights(self, x: float, scale: float) -> list[tuple[int, float]]:
        """(pixel, weight) around place x; pixels may lie outside."""
        floor = math.floor(x)
        if self.mode == "nearest":
            rounded = {
                "round_prefer_floor": math.ceil(x - 0.5),
                "round_prefer_ceil": math.floor(x + 0.5),
                "floor": floor,
                "ceil": math.ceil(x),
            }
            return [(rounded[self.nearest], 1.0)]
        narrow = min(scale, 1.0) if self.antialias else 1.0
        radius = math.ceil((1 if self.mode == "bilinear" else 2) / narrow)
        kernel = _triangle if self.mode == "bilinear" else functools.partial(_cubic, a=self.cubic)
        found = [
            (i, kernel((i - x) * narrow)) for i in range(floor - radius + 1, floor + radius + 1)
        ]
        total = sum(w for _, w in found) if self.antialias else 1.0
        return [(i, w / total) for i, w in found]


def _triangle(x: float) -> float:
    return max(0.0, 1 - abs(x))


def _cubic(x: float, a: float) -> float:
    """Keys 1981, "Cubic convolution interpolation"."""
    x = abs(x)
    if x <= 1:
        return ((a + 2) * x - (a + 3)) * x * x + 1
    return ((x - 5) * x + 8) * x * a - 4 * a if x < 2 else 0.0


@functools.lru_cache(maxsize=64)
def resized(
    n: int, outputs: int, scale: float, how: Axis, roi: tuple[float, float] = (0.0, 1.0)
) -> Taps:
    """N pixels as so many; pixels beyond an end are the last one, or count for nothing."""
    taps: list[list[tuple[int, float]]] = []
    for i in range(outputs):
        x = how.place(i, n, outputs, scale, roi)
        if how.coordinates == "tf_crop_and_resize" and not 0 <= x <= n - 1:
            taps.append([])
            continue
        pairs = how.weights(x, scale)
        if how.exclude_outside:
            inside = [(k, w) for k, w in pairs if 0 <= k < n]
            total = sum(w for _, w in inside)
            pairs = [(k, w / total) for k, w in inside]
        taps.append([(min(max(k, 0), n - 1), w) for k, w in pairs])
    return table(n, taps)

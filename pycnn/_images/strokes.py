"""Which parts of a picture's ink are the digit: no specks, no lines along the border."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Grey = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

CELLS = 256  # along the longer side, on which parts are told apart
SPECK = 0.03  # of the largest part's ink: less is no stroke
# A part with less than this share of the ink, and further off than this share of the extent.
STRAY = 0.1, 0.25
MARGIN = 0.06  # of the sides: where lines along the border lie
# Two parts are two digits if they stand apart, the lesser with this share of the other's ink and of
# its height, and of the height of all. Of MNIST's 70,000 digits 593 have several parts; with these
# numbers none is two digits, the nearest a 4 of bar and rest with 0.30, 0.75 and 0.75.
ALIKE = 1 / 3, 0.65, 0.4
# Below each other: with this gap, in heights of all, and not as narrow as the halves of a broken 1.
STACKED_GAP, STACKED_TALL, STACKED_WIDE = 0.08, 1.7, 0.5


class Found(NamedTuple):
    """What `digit` finds."""

    kept: Mask  # where [H, W] the digit may have ink
    told: list[str]  # what was left out, in words
    specks: float = 0.0  # their ink, as a share of theirs and the digit's
    several: bool = False  # whether two of its parts look like digits of their own


def digit(ink: Grey, faintest: float) -> Found:
    """Where the digit is, and what was left out.

    Parts are what hangs together, by sides or corners, in cells of mean ink above `faintest`; in
    pictures above 256 pixels a cell is more than one pixel. A rim of one cell around a part belongs
    to it. A stroke apart from the others, as the bar of a 5, is kept.
    """
    H, W = ink.shape
    side = -(-max(H, W) // CELLS)
    padded = np.pad(ink, ((0, -H % side), (0, -W % side)))
    cells = padded.reshape(len(padded) // side, side, -1, side).mean((1, 3))
    labels = components(cells > faintest)
    if not labels.any():  # strokes too thin for cells
        return Found(np.ones((H, W), np.bool_), [])
    mass = np.bincount(labels.ravel(), cells.ravel())[1:]
    low, high = _boxes(labels)
    border = _along_border(labels, mass, low, high)
    first = int(np.where(border, 0, mass).argmax())
    gaps = np.maximum(low - high[first], low[first] - high).max(1)
    extent = (high[first] - low[first]).max() + 1
    stray = (mass < STRAY[0] * mass[first]) & (gaps > STRAY[1] * extent)
    small = mass < SPECK * mass[first]
    specks = small | (stray & ~border)
    told = []
    if (border & ~small).any():
        told.append("lines along its border left out")
    if specks.any():
        n = int(specks.sum())
        told.append(f"{n} speck{'s' if n > 1 else ''} left out")
    own = ~(border | specks)
    kept = np.concatenate([[False], own])[labels]
    kept = _with_rim(kept).repeat(side, 0).repeat(side, 1)[:H, :W]
    speckled = specks & ~border
    share = float(mass[speckled].sum() / mass[own | speckled].sum())
    return Found(kept, told, share, _are_several(mass[own], low[own], high[own]))


def _are_several(
    mass: npt.NDArray[Any], low: npt.NDArray[np.intp], high: npt.NDArray[np.intp]
) -> bool:
    """Whether two of a digit's parts could be two digits, beside or below each other."""
    H, W = high.max(0) - low.min(0) + 1
    height, width = (high - low + 1).T

    def alike(values: npt.NDArray[Any], share: float) -> Mask:
        """[parts, parts]: whether the lesser has that share of the greater."""
        lesser = np.minimum(values, values[:, None])
        return np.asarray(lesser >= share * np.maximum(values, values[:, None]))

    gaps = np.maximum(low[:, None] - high, low - high[:, None]) - 1  # below 0 where they overlap
    pairs = alike(mass, ALIKE[0]) & alike(height, ALIKE[1])
    pairs &= np.minimum(height, height[:, None]) >= ALIKE[2] * H
    beside = gaps[..., 1] >= 0
    wide = width >= STACKED_WIDE * height
    below = (gaps[..., 0] >= STACKED_GAP * H) & wide & wide[:, None] & (H >= STACKED_TALL * W)
    return bool((pairs & (beside | below)).any())


def _boxes(labels: npt.NDArray[np.intp]) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """The first and the last (row, column) of each part: two arrays [parts, 2]."""
    places = np.argwhere(labels)
    part = labels[labels > 0] - 1
    low = np.full((int(labels.max()), 2), max(labels.shape))
    high = np.zeros_like(low)
    np.minimum.at(low, part, places)
    np.maximum.at(high, part, places)
    return low, high


def _along_border(
    labels: npt.NDArray[np.intp],
    mass: npt.NDArray[Any],
    low: npt.NDArray[np.intp],
    high: npt.NDArray[np.intp],
) -> Mask:
    """Which parts lie in the margin, if another part stands free in the middle."""
    size = np.array(labels.shape)
    margin = np.maximum(1, (MARGIN * size).astype(np.intp))
    inside = labels[margin[0] : -margin[0], margin[1] : -margin[1]].ravel()
    parts = len(mass)
    share = np.bincount(inside, minlength=parts + 1) / np.bincount(labels.ravel())
    border: Mask = share[1:] <= 0.1
    other = int(np.where(border, 0, mass).argmax())
    before, behind = low[other] < margin, high[other] >= size - margin
    if border.all() or mass[other] < SPECK * mass.max() or (before & behind).any():
        border[:] = False  # the digit fills the picture: what lies along its border is the digit's
    return border


def _with_rim(mask: Mask) -> Mask:
    """And the eight neighbours of each cell."""
    padded = np.pad(mask, 1)
    rows = padded[:-2] | padded[1:-1] | padded[2:]
    return np.asarray(rows[:, :-2] | rows[:, 1:-1] | rows[:, 2:])


def components(mask: Mask) -> npt.NDArray[np.intp]:
    """The parts that hang together by sides or corners, numbered from 1; 0 elsewhere.

    Runs of each row are joined with the runs of the row above that they touch (union-find).
    """
    H, W = mask.shape
    edges = np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    rows, starts = np.nonzero(edges == 1)
    stops = np.nonzero(edges == -1)[1]
    first = np.searchsorted(rows, np.arange(H + 1)).tolist()  # run of each row
    begin, end = starts.tolist(), stops.tolist()
    parent = list(range(len(begin)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for row in range(1, H):
        above = first[row - 1]
        for i in range(first[row], first[row + 1]):
            while above < first[row] and end[above] < begin[i]:
                above += 1
            j = above
            while j < first[row] and begin[j] <= end[i]:
                parent[root(j)] = root(i)
                j += 1
    roots = np.array([root(i) for i in range(len(parent))], np.intp)
    numbers = np.unique(roots, return_inverse=True)[1] + 1
    change = np.zeros((H, W + 1), np.intp)
    change[rows, starts] += numbers
    change[rows, stops] -= numbers
    return np.asarray(change.cumsum(axis=1)[:, :W])

"""Operators that move numbers, in float64: the place of each number by itself."""

import itertools

import numpy as np


def moved(x, shape, source):
    """y[at] = x[source(*at)]; a number itself where source gives none."""
    y = np.empty(shape)
    for at in np.ndindex(*shape):
        where = source(*at)
        y[at] = x[where] if isinstance(where, tuple) else where
    return y


def split(x, sizes, axis=-1):
    ends = np.cumsum([0, *sizes])
    return tuple(
        np.take(np.float64(x), range(a, b), axis=axis) for a, b in itertools.pairwise(ends)
    )


def slice_axis(x, start=None, stop=None, step=1, axis=-1):
    return np.take(np.float64(x), range(x.shape[axis])[start:stop:step], axis=axis)


def permute(x, axes):
    shape = [x.shape[axis] for axis in axes]
    return moved(x, shape, lambda *at: tuple(at[axes.index(axis)] for axis in range(x.ndim)))


def channel_shuffle(x, groups):
    each = x.shape[-1] // groups
    return moved(x, x.shape, lambda *at: (*at[:-1], at[-1] % groups * each + at[-1] // groups))


def pad(x, padding, mode="constant", value=0.0):
    pairs = [(0, 0), *padding, *[(0, 0)] * (x.ndim - 1 - len(padding))]
    if mode != "constant":
        return np.pad(np.float64(x), pairs, mode=mode)
    shape = [n + sum(pair) for n, pair in zip(x.shape, pairs, strict=True)]

    def source(*at):
        where = tuple(i - before for i, (before, _) in zip(at, pairs, strict=True))
        inside = all(0 <= i < n for i, n in zip(where, x.shape, strict=True))
        return where if inside else value

    return moved(x, shape, source)


def crop(x, padding):
    pairs = [(0, 0), *padding, *[(0, 0)] * (x.ndim - 1 - len(padding))]
    shape = [n - sum(pair) for n, pair in zip(x.shape, pairs, strict=True)]
    befores = [before for before, _ in pairs]
    return moved(x, shape, lambda *at: tuple(i + b for i, b in zip(at, befores, strict=True)))


def _channel(c, h, w, C, block, mode):
    """Which channel of a square holds channel c of C of its pixel (h, w)."""
    return (h * block + w) * C + c if mode == "DCR" else (c * block + h) * block + w


def depth_to_space(x, block, mode="DCR"):
    n, h, w, c = x.shape
    C = c // block**2

    def source(i, y, z, k):
        return i, y // block, z // block, _channel(k, y % block, z % block, C, block, mode)

    return moved(x, (n, h * block, w * block, C), source)


def space_to_depth(x, block, mode="DCR"):
    n, h, w, c = x.shape
    y = np.empty((n, h // block, w // block, c * block**2))
    for i, p, q, k in np.ndindex(*x.shape):
        at = _channel(k, p % block, q % block, c, block, mode)
        y[i, p // block, q // block, at] = x[i, p, q, k]
    return y

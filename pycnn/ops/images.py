"""The gather of images into a batch, plain or augmented: uint8 or float32 in, float32 out."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence

import _pycnn
import numpy as np
import numpy.typing as npt

from pycnn._runtime.checks import is_whole
from pycnn.ops.arrays import Array, Result, as_int64, contiguous, number

Floats = npt.NDArray[np.float32]
Channels = float | Sequence[float] | npt.NDArray[np.float32] | npt.NDArray[np.float64]

LARGEST_SIGMA = 1000.0  # pixels; 6001 weights
LARGEST_CROP = 4096  # pixels
_BYTE = 1.0 / 255.0


def gather_images(
    images: npt.ArrayLike,
    indices: npt.ArrayLike,
    *,
    scale: float | None = None,
    mean: Channels = 0.0,
    std: Channels = 1.0,
    out: Array | None = None,
) -> Floats:
    """The images of a batch as float32: y = (images[indices] * scale - mean) / std, in one pass.

    images: uint8 or float32 [n, ...]; indices: integers [B]; scale: by default 1/255 for uint8,
    which maps bytes to 0 .. 1, and 1 for float32; mean, std: a number, or [C], one number for each
    channel, the last axis. Each operation is rounded to float32, as NumPy does it. Returns
    y: float32 [B, ...]. Raises IndexError, naming it, for an index outside 0 .. n - 1; ValueError
    for shapes or numbers that do not fit, a std of 0 for example; TypeError for types.
    """
    op = "gather_images"
    source, which = _pixels(images, op), _indices(indices, images, op)
    factor = (_BYTE if source.dtype == np.uint8 else 1.0) if scale is None else number(scale)
    if not math.isfinite(factor):
        raise ValueError(f"{op}: scale is {scale!r}; expected a finite number.")
    means = _normalization(mean, std, source.shape, op)
    result = Result(out, (which.size, *source.shape[1:]), np.float32, op, False)
    _pycnn.gather_images(result.array, source, which, factor, means)
    return result.finish()


def augment_images(
    images: npt.ArrayLike,
    indices: npt.ArrayLike,
    *,
    seed: int,
    epoch: int,
    shift: float = 0.0,
    rotation: float = 0.0,
    scale: float = 0.0,
    shear: float = 0.0,
    elastic_alpha: float = 0.0,
    elastic_sigma: float = 4.0,
    erase: float = 0.0,
    crop: int = 0,
    flip: float = 0.0,
    brightness: float = 0.0,
    contrast: float = 0.0,
    mean: Channels = 0.0,
    std: Channels = 1.0,
    out: Array | None = None,
) -> Floats:
    """`gather_images` with each image distorted at random; `scale` is a size here, not a factor.

    images: uint8 (times 1/255) or float32 [n, H, W, C]; indices: integers [B]; seed, epoch: whole
    numbers from 0 to 2**64 - 1. The options are those of `pycnn.augment.Augmentation`; with all of
    them 0 the result has the bits of `gather_images`. What is looked up outside an image is zero,
    and mean and std are applied after that. An image's distortion depends on
    (seed, epoch, its index) alone: not on its batch, the threads or the instruction set. Returns
    y: float32 [B, H, W, C]. Raises as `gather_images`, and ValueError for an option out of range.
    """
    op = "augment_images"
    source, which = _pixels(images, op), _indices(indices, images, op)
    options = check_options(
        op,
        shift=shift,
        rotation=rotation,
        scale=scale,
        shear=shear,
        elastic_alpha=elastic_alpha,
        elastic_sigma=elastic_sigma,
        erase=erase,
        crop=crop,
        flip=flip,
        brightness=brightness,
        contrast=contrast,
    )
    words = _word(seed, op, "seed"), _word(epoch, op, "epoch")
    means = _normalization(mean, std, source.shape, op)
    if means is not None and source.ndim == 4:
        means = np.repeat(means, source.shape[-1] // means.shape[1], axis=1)  # [2, C]
    factor = _BYTE if source.dtype == np.uint8 else 1.0
    result = Result(out, (which.size, *source.shape[1:]), np.float32, op, False)
    _pycnn.augment_images(result.array, source, which, factor, means, options, *words)
    return result.finish()


def _size(value: float) -> bool:
    return 0.0 <= value < math.inf


def _share(value: float) -> bool:
    return 0.0 <= value <= 1.0


_PIXELS = "a finite number of pixels, 0 or more"
_PROBABILITY = "a probability from 0 to 1"
# What each option of an augmentation may be, and the words for it.
RANGES: dict[str, tuple[Callable[[float], bool], str]] = {
    "shift": (_size, _PIXELS),
    "rotation": (lambda v: 0.0 <= v <= 180.0, "degrees from 0 to 180"),
    "scale": (lambda v: 0.0 <= v < 1.0, "a share, 0 or more and less than 1"),
    "shear": (_size, "a finite number, 0 or more"),
    "elastic_alpha": (_size, _PIXELS),
    "elastic_sigma": (
        lambda v: 0.0 < v <= LARGEST_SIGMA,
        f"a number of pixels above 0, at most {LARGEST_SIGMA:g}",
    ),
    "erase": (_share, _PROBABILITY),
    "crop": (
        lambda v: 0.0 <= v <= LARGEST_CROP and v.is_integer(),
        f"a whole number of pixels, 0 to {LARGEST_CROP}",
    ),
    "flip": (_share, _PROBABILITY),
    "brightness": (_share, "a share from 0 to 1"),
    "contrast": (_share, "a share from 0 to 1"),
    "mixup": (_share, "a number from 0 to 1"),
}


def check_options(who: str, **given: object) -> tuple[float, ...]:
    """Options of an augmentation as floats; ValueError for the first out of its range."""
    for name, value in given.items():
        fits, expected = RANGES[name]
        if not fits(number(value)):
            raise ValueError(f"{who}: {name} is {value!r}; expected {expected}.")
    return tuple(map(number, given.values()))


def _indices(indices: npt.ArrayLike, images: npt.ArrayLike, op: str) -> Array:
    which = contiguous(indices, op, "indices")
    if which.dtype.kind not in "iu":
        raise TypeError(f"{op}: indices is {which.dtype}; expected integers [B].")
    return as_int64(which, op, "indices", IndexError, f"an index of images {np.shape(images)}")


def _word(value: int, op: str, name: str) -> int:
    """A whole number of 64 bits."""
    if not is_whole(value):
        raise TypeError(f"{op}: {name} is {value!r}; expected a whole number.")
    if not 0 <= int(value) < 2**64:
        raise ValueError(f"{op}: {name} is {value!r}; expected 0 to 2**64 - 1.")
    return int(value)


def _pixels(images: npt.ArrayLike, op: str) -> Array:
    """The images `contiguous`; other integers than uint8 are refused, C++ refuses the rest."""
    array = contiguous(images, op, "images")
    if array.dtype.kind in "iu" and array.dtype != np.uint8:
        raise TypeError(
            f"{op}: images is {array.dtype}; expected uint8 of 0 to 255, or float32 of 0 to 1: for "
            "pixels of 0 to 255 write images.astype(np.uint8)."
        )
    return array


def _normalization(mean: Channels, std: Channels, shape: tuple[int, ...], op: str) -> Floats | None:
    """[2, C] (or [2, 1], for all channels): means and standard deviations; None for 0 and 1."""
    if type(mean) is float and type(std) is float:
        return _of_numbers(mean, std, op)  # a training asks for the same ones in every step
    return _of_channels(mean, std, shape, op)


@functools.lru_cache(64)
def _of_numbers(mean: float, std: float, op: str) -> Floats | None:
    if mean == 0.0 and std == 1.0:
        return None
    return _of_channels(mean, std, (), op)


def _of_channels(mean: Channels, std: Channels, shape: tuple[int, ...], op: str) -> Floats | None:
    means, stds = _channels(mean, shape, op, "mean"), _channels(std, shape, op, "std")
    if not (np.isfinite(stds) & (stds > 0)).all():
        raise ValueError(f"{op}: std is {std!r}; expected finite numbers above 0 (in float32).")
    if not np.isfinite(means).all():
        raise ValueError(f"{op}: mean is {mean!r}; expected finite numbers (in float32).")
    if not means.any() and (stds == 1).all():
        return None
    return np.ascontiguousarray(np.stack(np.broadcast_arrays(means, stds)))


def _channels(value: Channels, shape: tuple[int, ...], op: str, name: str) -> Floats:
    """[1] or [channels] in float32, for images of `shape`."""
    channels = shape[-1] if len(shape) > 1 else 1
    array = np.asarray(value)
    if array.dtype.kind not in "iuf":
        raise TypeError(f"{op}: {name} is {value!r}; expected a number, or one a channel.")
    if array.shape not in ((), (channels,)):
        nchw = len(shape) == 4 and array.shape == shape[1:2]
        raise ValueError(
            f"{op}: {name} has shape {array.shape}; expected a number, or one for each of the "
            f"channels, the last axis of images: ({channels},)"
            + (": for [n, C, H, W] write images.transpose(0, 2, 3, 1)." if nchw else ".")
        )
    with np.errstate(over="ignore"):
        return array.astype(np.float32).reshape(-1)

"""Pictures of any size become what a model was trained on: MNIST's light digit on black.

MNIST's page (yann.lecun.com/exdb/mnist) says how its images were made: the digit is scaled to fit a
box of 20 x 20 pixels with its proportions kept, which makes grey levels, and placed in 28 x 28 so
that its centre of mass is the centre. In its files that is pixel 14, to half a pixel.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pycnn._images import doubts, strokes

if TYPE_CHECKING:
    from PIL import Image

Grey = npt.NDArray[np.float32]
Places = npt.NDArray[np.intp]

BOX = 20 / 28  # of the image's sides: the digit's largest extent
BORDER = 0.08  # of the sides: where the background is looked for
FAINTEST_INK = 0.1  # of the darkest ink; paler than that is no part of the digit's box
FEWEST_LEVELS = 12  # of 255 between background and ink; below that nothing is drawn


class NoInk(ValueError):
    """A picture in which nothing is drawn."""


def prepare(
    image: Image.Image,
    size: tuple[int, int] = (28, 28),
    *,
    doubtful: list[str] | None = None,
    digit: bool = True,
) -> tuple[Grey, list[str]]:
    """The picture as float32 [H, W] of `size` in 0 .. 1, and what was done to it, in words.

    A grey picture that already has this size and a dark border is only divided by 255. Others are
    turned to grey, inverted where the border is bright, evened where the light falls unevenly,
    stretched from background to ink, freed from specks and lines along the border, cropped, scaled
    and centred. Raises NoInk for a picture in which nothing stands out, and NoDigit for one that
    is not one digit (see `doubts`), unless digit=False says that something else may be drawn. With
    a list `doubtful` nothing of this is raised: the sentence is appended to it instead.
    """
    try:
        return _prepare(image, size, doubtful, digit)
    except NoInk as error:
        if doubtful is None:
            raise
        doubtful.append(str(error))
        return np.zeros(size, np.float32), ["taken as black"]


def _prepare(
    image: Image.Image, size: tuple[int, int], doubtful: list[str] | None, digit: bool
) -> tuple[Grey, list[str]]:
    steps: list[str] = []
    grey = _grey(image, steps)
    prepared = grey.shape == size and not steps
    border = _border(grey.shape)
    if np.median(grey[border]) > 127.5:
        grey = 255 - grey
        steps.append("inverted, since its background is bright")
        prepared = False
    ink = _ink(grey if prepared else _even(grey, border, steps), border)
    found = strokes.digit(ink, FAINTEST_INK)
    steps += found.told
    ink = ink * found.kept
    ink /= ink.max()
    rows, columns = (np.flatnonzero((ink > FAINTEST_INK).any(axis)) for axis in (1, 0))
    ink = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    doubt = doubts.of(found, _scaled(ink, (28, 28))) if digit else None
    if doubt and doubtful is None:
        raise doubts.NoDigit(doubt)
    if doubt and doubtful is not None:
        doubtful.append(doubt)
    if prepared:
        return grey / np.float32(255), ["taken as it is"]
    H, W = ink.shape
    if grey.shape != (H, W):
        steps.append(f"cropped from {grey.shape[1]} x {grey.shape[0]} to {W} x {H} pixels of ink")
    ink = _scaled(ink, size)
    if ink.shape != (H, W):
        steps.append(f"scaled to {ink.shape[1]} x {ink.shape[0]}")
    steps.append(f"centred by mass in {size[1]} x {size[0]}")
    return _centred(ink, size), steps


def _grey(image: Image.Image, steps: list[str]) -> Grey:
    """[H, W] in 0 .. 255; transparent pixels become paper that the ink stands out from."""
    from PIL import ImageOps

    image = ImageOps.exif_transpose(image)
    if image.mode[0] in "IF":  # 16 bits and more
        values: Any = np.asarray(image, np.float64)
        low, high = float(values.min()), float(values.max())
        values = (values - low) * (255 / (high - low) if high > low else 0.0)
        steps.append(f"its levels of {low:g} to {high:g} scaled to 0 to 255")
        deep: Grey = np.asarray(values, np.float32)
        return deep
    if image.has_transparency_data:
        pixels = np.asarray(image.convert("RGBA").convert("LA"), np.float32)
        colour, opacity = pixels[..., 0], pixels[..., 1] / 255
        mean = float((colour * opacity).sum() / max(float(opacity.sum()), 1.0))
        paper = 0.0 if mean > 127.5 else 255.0
        if (opacity < 1).any():
            steps.append(f"laid on {'black' if paper == 0 else 'white'}, since it is transparent")
        laid: Grey = np.asarray(colour * opacity + paper * (1 - opacity), np.float32)
        return laid
    if image.mode not in ("L", "1"):
        steps.append("turned to grey")
    grey: Grey = np.asarray(image.convert("L"), np.float32)
    return grey


def _border(shape: tuple[int, ...]) -> tuple[Places, Places]:
    """Rows and columns of pixels near the border, at most some 50,000; wider than a thin frame."""
    H, W = shape
    near = np.ones((H, W), np.bool_)
    h, w = (max(1, round(BORDER * n)) for n in (H, W))
    near[h : max(H - h, h), w : max(W - w, w)] = False
    rows, columns = np.nonzero(near)
    step = -(-len(rows) // 50_000)
    return rows[::step], columns[::step]


def _even(grey: Grey, border: tuple[Places, Places], steps: list[str]) -> Grey:
    """Without the plane through the border's levels, where they lie on one rather than are alike.

    Least squares, again and again without what lies far off: a frame, or a digit at the border.
    """
    levels = grey[border].astype(np.float64)
    H, W = grey.shape
    y, x = border[0] / max(H - 1, 1), border[1] / max(W - 1, 1)
    basis = np.stack([y, x, np.ones_like(x)], 1)
    used = np.ones(len(levels), np.bool_)
    for _ in range(8):
        plane = np.linalg.lstsq(basis[used], levels[used], rcond=None)[0]
        off = np.abs(levels - basis @ plane)
        used = off <= max(3 * float(np.median(off)), 1.0)
    spread = float(np.median(np.abs(levels - np.median(levels))))
    if np.median(off) > spread / 2 or np.abs(plane[:2]).sum() < FEWEST_LEVELS:
        return grey
    surface = plane[0] * np.linspace(0, 1, H)[:, None] + plane[1] * np.linspace(0, 1, W) + plane[2]
    low, high = float(surface.min()), float(surface.max())
    steps.append(f"its background evened, whose levels go over {high - low:.0f} of 255")
    evened: Grey = (grey - surface).astype(np.float32)
    return evened


def _ink(grey: Grey, border: tuple[Places, Places]) -> Grey:
    """0 for the background and its noise, 1 for the strongest ink."""
    levels = grey[border]
    background = float(np.median(levels))
    noise = float(np.median(np.abs(levels - background)))
    strongest = float(grey.max())
    # Where the digit is cut out tightly, much of the border is ink, and that is no noise.
    floor = background + min(4 * noise, (strongest - background) / 3)
    if strongest - floor < FEWEST_LEVELS:
        raise NoInk(
            "nothing is drawn in it: the strongest ink is "
            f"{strongest - background:.0f} of 255 levels from the background, whose noise is "
            f"{noise:.0f}; expected {math.ceil(FEWEST_LEVELS + floor - background)} or more"
        )
    ink: Grey = np.clip((grey - floor) / (strongest - floor), 0, 1).astype(np.float32)
    return ink


def _scaled(ink: Grey, size: tuple[int, int]) -> Grey:
    """With its proportions as large as fits the box, at least a pixel wide and high."""
    from PIL import Image

    factor = min(max(round(BOX * n), 1) / extent for n, extent in zip(size, ink.shape, strict=True))
    H, W = (max(round(extent * factor), 1) for extent in ink.shape)
    if ink.shape == (H, W):
        return ink
    image = Image.fromarray(ink).resize((W, H), Image.Resampling.BILINEAR)  # smooths as it shrinks
    scaled: Grey = np.array(image, np.float32)
    scaled /= scaled.max()
    return scaled


def _centred(ink: Grey, size: tuple[int, int]) -> Grey:
    """Moved by whole pixels so that the centre of mass is within half a pixel of size / 2."""
    out = np.zeros(size, np.float32)
    start = []
    for axis, (n, extent) in enumerate(zip(size, ink.shape, strict=True)):
        mass = ink.sum(1 - axis, dtype=np.float64)
        centre = float(mass @ np.arange(extent) / mass.sum())
        start.append(min(max(math.ceil(n / 2 - 0.5 - centre), 0), n - extent))
    out[start[0] : start[0] + ink.shape[0], start[1] : start[1] + ink.shape[1]] = ink
    return out

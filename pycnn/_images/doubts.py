"""Whether what is drawn in a picture is one digit: drawn in strokes, and not several shapes.

A network that knows ten classes tells one of them for anything, and often surely: softmax has no
class for "nothing of this". So a picture is looked at before the network is asked. The limits are
those of MNIST's 70,000 digits, made by `digits.prepare`, with some room; what was measured with
them stands in docs/formats.md.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from pycnn._images import strokes

Grey = npt.NDArray[np.float32]

INK = 0.4  # what of the strongest ink is inside the outline
# Of a digit in a box of 20 x 20 pixels; in brackets the largest of MNIST's 70,000.
MOST_SPECKS = 0.5  # of the ink (0.07); a scan may be dirtier
LONGEST_OUTLINE = 210  # pixels' sides between ink and paper (192)
MOST_PIECES = 6  # that hang together (5)
THICKEST = 8  # times the ink loses the pixels along its outline before none is left (7)


class NoDigit(ValueError):
    """A picture in which something is drawn, but not one digit."""


def of(found: strokes.Found, ink: Grey) -> str | None:
    """Why this is not one digit, or None; ink: the digit alone, scaled to fit 20 x 20 pixels."""
    if found.specks > MOST_SPECKS:
        return (
            f"it looks like noise: {100 * found.specks:.0f} % of its ink are specks; expected the "
            "strokes of one digit"
        )
    mask = np.pad(ink > INK * ink.max(), 1)
    outline = int((mask[1:] != mask[:-1]).sum() + (mask[:, 1:] != mask[:, :-1]).sum())
    pieces = int(strokes.components(mask).max())
    thickness = _thickness(mask)
    for value, most, what in (
        (outline, LONGEST_OUTLINE, "an outline of {} pixels"),
        (pieces, MOST_PIECES, "{} pieces"),
        (thickness, THICKEST, "a patch {} pixels thick from its edge to its middle"),
    ):
        if value > most:
            return (
                f"it looks like noise or a texture: scaled to 20 x 20 pixels its ink has "
                f"{what.format(value)}; expected the strokes of one digit, at most {most}"
            )
    if found.several:
        return (
            "it looks like several digits: two parts of its ink stand apart and are alike in size; "
            "expected one digit: cut the picture into one for each"
        )
    return None


def _thickness(mask: npt.NDArray[Any]) -> int:
    """How often the mask, with a rim of False, loses all pixels beside one that is not in it."""
    times = 0
    while mask.any():
        inner = np.zeros_like(mask)
        inner[1:-1, 1:-1] = (
            mask[1:-1, 1:-1] & mask[:-2, 1:-1] & mask[2:, 1:-1] & mask[1:-1, :-2] & mask[1:-1, 2:]
        )
        mask, times = inner, times + 1
    return times

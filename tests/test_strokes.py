"""What of a picture is taken for the digit: not specks, frames and uneven light."""

import numpy as np
import pytest

from pycnn import datasets
from pycnn._images import digits as _digits
from pycnn._images import strokes

Image = pytest.importorskip("PIL.Image", reason="Pillow is in an extra: pip install '.[images]'")


@pytest.fixture(scope="module")
def digits():
    return datasets.load_mnist().test.images[:20, :, :, 0]


def drawn(image, paper=255.0, ink=0.0, size=(240, 320), at=(50, 90), side=140):
    """A digit of `side` pixels in levels from paper to ink, on a larger paper."""
    cover = np.zeros(size)
    scaled = Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC)
    cover[at[0] : at[0] + side, at[1] : at[1] + side] = np.asarray(scaled) / 255
    return paper + (ink - paper) * cover


def prepared(levels):
    return _digits.prepare(Image.fromarray(np.clip(levels, 0, 255).astype(np.uint8)))


def alike(a, b):
    """The correlation; rounding may move a digit by a pixel."""
    moved = [np.roll(a, (i, j), (0, 1)) for i in (-1, 0, 1) for j in (-1, 0, 1)]
    return max(np.corrcoef(m.ravel(), b.ravel())[0, 1] for m in moved)


def speckle(levels):
    levels[5, 5] = 0
    levels[200:204, 300:304] = 0
    levels[30, 80] = 0


def frame(levels):
    levels[:2] = levels[-2:] = 0
    levels[:, :2] = levels[:, -2:] = 0


def inset_frame(levels):
    levels[8:10, 8:-8] = levels[-10:-8, 8:-8] = 0
    levels[8:-8, 8:10] = levels[8:-8, -10:-8] = 0


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (speckle, "3 specks left out"),
        (frame, "lines along its border left out"),
        (inset_frame, "lines along its border left out"),
    ],
)
def test_specks_and_lines_along_the_border_change_nothing(digits, spoil, told):
    for image in digits:
        levels = drawn(image)
        alone, steps = prepared(levels)
        assert not [step for step in steps if "left out" in step]
        spoil(levels)
        spoiled, steps = prepared(levels)
        assert told in steps
        np.testing.assert_allclose(spoiled, alone, atol=1e-6)


def test_uneven_light_is_evened(digits, rng):
    light = np.linspace(150, 230, 320) + np.linspace(-15, 15, 240)[:, None]
    for image in digits:
        alone = prepared(drawn(image))[0]
        y, steps = prepared(drawn(image, light, 60) + rng.normal(0, 2, light.shape))
        assert "its background evened, whose levels go over 110 of 255" in steps
        assert alike(y, alone) > 0.9


def test_uneven_paper_without_ink_says_what_was_found():
    light = np.tile(np.linspace(150, 230, 320), (240, 1))
    light[100:140, 150:160] -= 8
    found = r"nothing is drawn in it: the strongest ink is \d of 255 levels from the background, "
    with pytest.raises(_digits.NoInk, match=found + r"whose noise is \d; expected 1\d or more$"):
        prepared(light)


def test_a_digit_that_fills_the_picture_stays_whole(digits):
    """Its strokes lie along the border, and the border is no paper."""
    for image in digits:
        rows, columns = (np.flatnonzero((image > 60).any(axis)) for axis in (1, 0))
        cut = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        y, steps = prepared(255.0 - cut)
        assert not [step for step in steps if "left out" in step]
        framed = prepared(255.0 - np.pad(cut, 20))[0]
        assert alike(y, framed) > 0.9


@pytest.mark.parametrize("cut", [None, (100, 200, 110, 240)])
def test_a_digit_of_several_strokes_stays_whole(cut):
    levels = np.full((240, 320), 255.0)
    levels[100:200, 110:122] = levels[188:200, 110:220] = 0  # an L
    levels[100:112, 140:240] = 0  # a bar apart from it
    if cut:
        levels = levels[cut[0] : cut[1], cut[2] : cut[3]]
    y, steps = prepared(levels)
    assert not [step for step in steps if "left out" in step]
    assert np.ptp(np.flatnonzero((y > 0).any(0))) + 1 == 20  # as wide as the bar reaches


def slow_components(mask):
    labels = np.where(mask, np.arange(1, mask.size + 1).reshape(mask.shape), 0)
    while True:
        padded = np.pad(labels, 1)
        around = [
            padded[i : i + len(mask), j : j + mask.shape[1]] for i in range(3) for j in range(3)
        ]
        grown = np.where(mask, np.max(around, axis=0), 0)
        if (grown == labels).all():
            return labels
        labels = grown


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 0.4, 0.5, 0.7, 1.0])
def test_components_against_a_slow_flood(share, rng):
    for shape in ((1, 1), (1, 30), (30, 1), (17, 23)):
        mask = rng.random(shape) < share
        found, slow = strokes.components(mask), slow_components(mask)
        pairs = set(zip(found.ravel().tolist(), slow.ravel().tolist(), strict=True))
        assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})
        assert ((found > 0) == mask).all()
        assert set(found[mask].tolist()) == set(range(1, found.max() + 1))

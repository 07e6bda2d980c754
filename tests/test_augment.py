"""Augmentation: the maps against float64, what is drawn, and on what it may not depend."""

import dataclasses
import zlib

import numpy as np
import pytest
import reference
import tolerance
from hypothesis import given
from hypothesis import strategies as st

import pycnn
from pycnn import ops
from pycnn.augment import Augmentation

AFFINE = {"shift": 2.0, "rotation": 10.0, "scale": 0.1, "shear": 0.1}
OLD = {**AFFINE, "elastic_alpha": 20.0, "elastic_sigma": 2.5, "erase": 0.5}
COLOURS = {"brightness": 0.4, "contrast": 1.0}
ALL = {**OLD, "crop": 3, "flip": 0.5, **COLOURS}
EACH = {
    "nothing": {},
    "shift": {"shift": 3.5},
    "rotation": {"rotation": 180.0},
    "scale": {"scale": 0.9},
    "shear": {"shear": 1.5},
    "affine": AFFINE,
    "far": {"shift": 200.0},
    "elastic": {"elastic_alpha": 34.0},
    "elastic_narrow": {"elastic_alpha": 3.0, "elastic_sigma": 0.2},
    "elastic_wide": {"elastic_alpha": 90.0, "elastic_sigma": 20.0},
    "erase": {"erase": 1.0},
    "crop": {"crop": 2},
    "crop_all": {"crop": 50},
    "flip": {"flip": 1.0},
    "crop_flip_erase": {"crop": 1, "flip": 0.5, "erase": 0.5},
    "flip_affine": {"flip": 0.5, **AFFINE},
    "brightness": {"brightness": 1.0},
    "contrast": {"contrast": 0.5},
    "colours": {"crop": 1, **COLOURS},
    "all": ALL,
}
SHAPES = [(28, 28, 1), (5, 17, 3), (1, 1, 1), (3, 16, 1), (19, 33, 2)]


def images_of(rng, shape, kind, count=6):
    if kind == "bytes":
        return rng.integers(0, 256, (count, *shape), dtype=np.uint8)
    return rng.standard_normal((count, *shape), np.float32)


@pytest.mark.parametrize("kind", ["bytes", "floats"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("options", EACH.values(), ids=EACH)
def test_the_maps_are_those_of_the_reference(isa, rng, options, shape, kind):
    images, indices = images_of(rng, shape, kind), np.array([4, 0, 4])
    options = {"seed": 2**64 - 1, "epoch": 3, "mean": 0.3, "std": 0.5, **options}
    y = ops.augment_images(images, indices, **options)
    assert y.dtype == np.float32
    exact = reference.augment_images(images, indices, **options)
    tolerance.assert_within(y, exact, tolerance.augment_images(images, indices, **options))


@pytest.mark.parametrize("kind", ["bytes", "floats"])
@pytest.mark.parametrize("means", [{}, {"mean": 0.1307, "std": 0.3081}, "channels"], ids=str)
def test_without_options_the_bits_are_those_of_the_gather(isa, num_threads, rng, kind, means):
    images, indices = images_of(rng, (9, 7, 3), kind), np.array([5, 1, 1, 0])
    if means == "channels":
        means = {"mean": (0.1, 0.2, 0.3), "std": np.array([1.0, 2.0, 0.5])}
    y = ops.augment_images(images, indices, seed=1, epoch=2, **means)
    assert y.tobytes() == ops.gather_images(images, indices, **means).tobytes()
    y = Augmentation().gather(images, indices, seed=1, epoch=2, **means)
    assert y.tobytes() == ops.gather_images(images, indices, **means).tobytes()


@pytest.mark.parametrize("means", [(0.1307, 0.3081), ((0.5, 0.0, -3.0), (2.0, 1.0, 0.3))], ids=str)
@pytest.mark.parametrize("kind", ["bytes", "floats"])
@pytest.mark.parametrize("size", [1, 3, 16, 17, 50])
def test_the_gather_has_the_bits_of_numpy(isa, num_threads, rng, means, kind, size):
    """Product, difference, quotient, rounded each, whatever the remainder of vectors is."""
    images, (mean, std) = images_of(rng, (size, 3), kind), means
    y = ops.gather_images(images, np.array([5, 0]), mean=mean, std=std)
    pixels = images[[5, 0]].astype(np.float32)
    if kind == "bytes":
        pixels *= np.float32(1 / 255)
    exact = (pixels - np.float32(mean)) / np.float32(std)
    assert y.tobytes() == exact.tobytes()


@pytest.mark.parametrize(
    ("mean", "std"),
    [(0.0, 0.5), (0.25, 1.0), (0, 2), ((0.0, 0.0, 0.0), (1.0, 1.0, 4.0)), ((0.0, 0.5, 0.0), 1.0)],
)
def test_a_mean_or_a_std_alone_is_applied(rng, mean, std):
    images = images_of(rng, (4, 3), "floats")
    y = ops.gather_images(images, [1, 0], mean=mean, std=std)
    exact = (images[[1, 0]] - np.float32(mean)) / np.float32(std)
    assert y.tobytes() == exact.tobytes()


def test_floats_pass_the_gather_as_they_are(isa):
    images = np.array([[np.nan, np.inf, -0.0, 1e-42, -np.inf, 3.5]], np.float32)
    assert ops.gather_images(images, [0]).tobytes() == images.tobytes()


def all_ways(function):
    """The bits of function() on every instruction set and several thread counts."""
    before, found = pycnn.isa(), set()
    try:
        for name in pycnn.available_isas():
            pycnn.use_isa(name)
            for threads in (1, 2, 3, 8):
                with pycnn.num_threads(threads):
                    found.add(function().tobytes())
    finally:
        pycnn.use_isa(before)
    return found


@pytest.mark.parametrize("shape", [(28, 28, 1), (13, 18, 3)], ids=str)
def test_the_bits_are_the_same_everywhere(rng, shape):
    """Baseline included: nothing here uses fma."""
    images, indices = images_of(rng, shape, "bytes", 300), rng.integers(0, 300, 400)
    augmentation = Augmentation(**ALL)
    found = all_ways(
        lambda: augmentation.gather(images, indices, seed=3, epoch=4, mean=0.1307, std=0.3081)
    )
    assert len(found) == 1


def test_known_bits(isa):
    """Other draws would change runs that are resumed from a checkpoint of an older version."""
    images = (np.arange(450) % 256).astype(np.uint8).reshape(2, 15, 15, 1)
    y = ops.augment_images(images, [0, 1], seed=1, epoch=2, **OLD)
    assert zlib.crc32(y.tobytes()) == 3109917135
    y = ops.augment_images(images, [0, 1], seed=1, epoch=2, crop=3, flip=0.5, **COLOURS)
    assert zlib.crc32(y.tobytes()) == 2635603435


def test_an_image_depends_on_seed_epoch_and_index_alone(rng):
    images, order = images_of(rng, (12, 11, 1), "bytes", 50), rng.permutation(50)
    augmentation = Augmentation(**ALL)
    y = augmentation.gather(images, np.arange(50), seed=7, epoch=8)
    np.testing.assert_array_equal(augmentation.gather(images, order, seed=7, epoch=8), y[order])
    twice = augmentation.gather(images, [9, 3, 9], seed=7, epoch=8)
    np.testing.assert_array_equal(twice, y[[9, 3, 9]])
    for other in ({"seed": 8, "epoch": 8}, {"seed": 7, "epoch": 9}, {"seed": 8, "epoch": 7}):
        z = augmentation.gather(images, np.arange(50), **other)
        assert (z != y).any(axis=(1, 2, 3)).all()


def test_all_channels_move_alike(isa, rng):
    images = images_of(rng, (14, 20, 1), "bytes")
    y = ops.augment_images(images, [2, 5], seed=1, epoch=1, **ALL)
    colours = ops.augment_images(np.repeat(images, 3, axis=3), [2, 5], seed=1, epoch=1, **ALL)
    np.testing.assert_allclose(colours, np.repeat(y, 3, axis=3), rtol=1e-6, atol=1e-6)  # a mean


def drawn(options, count=4000, size=41):
    """What was drawn for `count` images: shift x, y, degrees, scale x, y, shear, a row each.

    The images hold the coordinates of their pixels from the centre, so a result tells where its
    pixels were looked up: near the centre position(p) = M (p - t), M = (R K S)^-1.
    """
    line = np.arange(size, dtype=np.float32) - size // 2
    image = np.stack(np.meshgrid(line, line), axis=-1)
    images = np.broadcast_to(image, (count, size, size, 2))
    at = size // 2
    y = ops.augment_images(images, np.arange(count), seed=11, epoch=1, **options).astype(float)
    centre = y[:, at, at]
    back = np.stack([y[:, at, at + 1] - centre, y[:, at + 1, at] - centre], axis=-1)
    there = np.linalg.inv(back)
    shift = -(there @ centre[:, :, None])[:, :, 0]
    wider = np.hypot(there[:, 0, 0], there[:, 1, 0])
    angle = np.arctan2(there[:, 1, 0], there[:, 0, 0])
    cosine, sine = np.cos(angle), np.sin(angle)
    higher = -sine * there[:, 0, 1] + cosine * there[:, 1, 1]
    shear = (cosine * there[:, 0, 1] + sine * there[:, 1, 1]) / higher
    return np.stack([*shift.T, np.degrees(angle), wider - 1, higher - 1, shear])


def test_what_is_drawn_is_uniform_and_independent():
    limits = np.array([2, 2, 15, 0.2, 0.2, 0.3])
    options = {"shift": 2.0, "rotation": 15.0, "scale": 0.2, "shear": 0.3}
    values = drawn(options) / limits[:, None]
    count = values.shape[1]
    assert (np.abs(values) <= 1 + 1e-3).all()
    assert (np.abs(values.mean(axis=1)) < 4 / np.sqrt(3 * count)).all()
    np.testing.assert_allclose(values.std(axis=1), 1 / np.sqrt(3), rtol=0.03)
    quantiles = np.quantile(values, [0.01, 0.25, 0.75, 0.99], axis=1)
    np.testing.assert_allclose(quantiles.T, [[-0.98, -0.5, 0.5, 0.98]] * 6, atol=0.05)
    others = np.corrcoef(values) - np.eye(6)
    assert (np.abs(others) < 4 / np.sqrt(count)).all()


@pytest.mark.parametrize("name", ["shift", "rotation", "scale", "shear"])
def test_one_option_leaves_the_draws_of_another(name):
    options = {"shift": 2.0, "rotation": 15.0, "scale": 0.2, "shear": 0.3}
    rows = {"shift": [0, 1], "rotation": [2], "scale": [3, 4], "shear": [5]}[name]
    alone, together = drawn({name: options[name]}, 50)[rows], drawn(options, 50)[rows]
    np.testing.assert_allclose(alone, together, atol=1e-3)


def test_elastic_moves_by_alpha_times_smoothed_noise():
    """In the middle of a large image the mean square is alpha^2 / 3 times the squared weights'."""
    line = np.arange(41, dtype=np.float32) - 20
    images = np.broadcast_to(np.stack(np.meshgrid(line, line), axis=-1), (2000, 41, 41, 2))
    y = ops.augment_images(images, np.arange(2000), seed=2, epoch=1, elastic_alpha=34.0)
    moves = y[:, 20, 20].astype(float)
    weights = np.exp(-0.5 * (np.arange(-12, 13) / 4) ** 2)
    weights /= weights.sum()
    expected = 34 / np.sqrt(3) * (weights**2).sum()
    np.testing.assert_allclose(moves.std(axis=0), expected, rtol=0.08)
    assert (np.abs(moves.mean(axis=0)) < 4 * expected / np.sqrt(2000)).all()
    assert abs(np.corrcoef(moves.T)[0, 1]) < 4 / np.sqrt(2000)


@pytest.mark.parametrize("probability", [0.25, 1.0])
def test_erasing_sets_a_rectangle_to_zero_before_mean_and_std(isa, probability):
    count, size = 2000, 30
    images = np.full((count, size, size, 1), 255, np.uint8)
    y = ops.augment_images(
        images, np.arange(count), seed=1, epoch=1, erase=probability, mean=0.5, std=0.25
    )[..., 0]
    assert set(np.unique(y)) == {-2.0, 2.0}
    erased = y == -2.0
    heights, widths = erased.any(axis=2).sum(axis=1), erased.any(axis=1).sum(axis=1)
    areas = erased.sum(axis=(1, 2))
    np.testing.assert_array_equal(areas, heights * widths)
    some = areas > 0
    deviation = np.sqrt(probability * (1 - probability) / count)
    assert abs(some.mean() - probability) <= 4 * deviation
    shares, ratios = areas[some] / size**2, heights[some] / widths[some]
    assert shares.min() >= 0.015
    assert shares.max() <= 0.35
    assert 0.15 < shares.mean() < 0.19
    assert ratios.min() >= 0.25
    assert ratios.max() <= 4
    where = erased[some].mean(axis=0)
    np.testing.assert_allclose(where[::-1, ::-1], where, atol=0.1)


def test_crop_and_flip_copy_pixels_to_places_drawn_alike(isa):
    """All 5 x 5 places and both sides, each as often; outside is zero; nothing is blurred."""
    count, images = 4000, np.arange(1, 31, dtype=np.float32).reshape(1, 5, 6, 1)
    images = np.broadcast_to(images, (count, 5, 6, 1))
    y = ops.augment_images(images, np.arange(count), seed=5, epoch=1, crop=2, flip=0.25)
    padded = {}
    for mirrored in (False, True):
        source = np.pad(images[0, :, :: -1 if mirrored else 1], ((2, 2), (2, 2), (0, 0)))
        for top in range(5):
            for left in range(5):
                padded[source[top : top + 5, left : left + 6].tobytes()] = mirrored, top, left
    places = [padded[image.tobytes()] for image in y]
    found = np.bincount([25 * m + 5 * top + left for m, top, left in places], minlength=50)
    expected = np.repeat([0.75, 0.25], 25) * count / 25
    assert (np.abs(found - expected) < 5 * np.sqrt(expected)).all()


def test_brightness_and_contrast_change_values_about_the_mean():
    """By factors uniform in 1 +- the option; the mean of the image stays under contrast."""
    count, image = 3000, np.array([[0, 64], [128, 208]], np.uint8)[..., None]
    images = np.broadcast_to(image, (count, 2, 2, 1))
    seen = {"seed": 5, "epoch": 1}
    for option, most in (("brightness", 0.5), ("contrast", 0.8)):
        y = ops.augment_images(images, np.arange(count), **seen, **{option: most})
        factors = (y[:, 1, 1, 0] - y[:, 0, 0, 0]) * 255 / 208
        assert (np.abs(factors - 1) <= most + 1e-6).all()
        assert abs(factors.mean() - 1) < 4 * most / np.sqrt(3 * count)
        np.testing.assert_allclose(factors.std(), most / np.sqrt(3), rtol=0.05)
        mean = 100 / 255 * (factors if option == "brightness" else 1)
        np.testing.assert_allclose(y.mean(axis=(1, 2, 3)), mean, rtol=1e-5)


numbers = {
    "shift": st.floats(0, 1e300),
    "rotation": st.floats(0, 180),
    "scale": st.floats(0, 1, exclude_max=True),
    "shear": st.floats(0, 1e308),
    "elastic_alpha": st.one_of(st.just(0.0), st.floats(0, 1e300)),
    "elastic_sigma": st.floats(5e-324, 20),
    "erase": st.floats(0, 1),
    "crop": st.integers(0, 4096),
    "flip": st.floats(0, 1),
}


@given(
    options=st.fixed_dictionaries({}, optional=numbers),
    shape=st.tuples(st.integers(0, 9), st.integers(0, 20), st.integers(0, 3)),
    seed=st.integers(0, 2**64 - 1),
)
def test_any_options_give_numbers_between_those_of_the_image(options, shape, seed):
    """However large: a bilinear value is a mean, and outside is zero."""
    images = np.random.default_rng(1).integers(50, 200, (2, *shape), dtype=np.uint8)
    y = ops.augment_images(images, [1, 0], seed=seed, epoch=seed, **options)
    assert y.shape == (2, *shape)
    assert (y >= 0).all()
    assert (y <= 200 / 255).all()


def test_a_nan_shows_where_it_is_looked_up(isa):
    images = np.ones((1, 20, 20, 1), np.float32)
    images[0, 10, 10] = np.nan
    for seed in range(5):
        y = ops.augment_images(images, [0], seed=seed, epoch=1, shift=2.0, rotation=10.0)
        assert 1 <= np.isnan(y).sum() <= 16


def test_augmentation_is_a_frozen_dataclass_of_floats():
    augmentation = Augmentation(shift=2, rotation=np.float32(10))
    assert augmentation == Augmentation(2.0, 10.0)
    assert type(augmentation.rotation) is type(augmentation.shift) is float
    with pytest.raises(dataclasses.FrozenInstanceError):
        augmentation.shift = 3.0
    assert dataclasses.asdict(Augmentation()) == {
        "shift": 0.0,
        "rotation": 0.0,
        "scale": 0.0,
        "shear": 0.0,
        "elastic_alpha": 0.0,
        "elastic_sigma": 4.0,
        "erase": 0.0,
        "crop": 0,
        "flip": 0.0,
        "brightness": 0.0,
        "contrast": 0.0,
        "mixup": 0.0,
    }
    assert type(Augmentation(crop=np.float64(2)).crop) is int


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("shift", -1),
        ("rotation", 200),
        ("scale", 1),
        ("shear", np.inf),
        ("erase", "often"),
        ("elastic_alpha", np.nan),
        ("elastic_sigma", 0.0),
        ("elastic_sigma", True),
        ("crop", 1.5),
        ("crop", 4097),
        ("flip", 1.1),
        ("brightness", 2),
        ("contrast", -0.1),
        ("mixup", 1.5),
    ],
)
def test_an_option_out_of_range_is_refused_when_it_is_given(name, value):
    with pytest.raises(ValueError, match=rf"^Augmentation: {name} is .*{value}.*; expected "):
        Augmentation(**{name: value})


def test_out_is_filled_and_returned(rng):
    images, out = images_of(rng, (8, 8, 1), "bytes"), np.full((2, 8, 8, 1), np.nan, np.float32)
    augmentation = Augmentation(**ALL)
    y = augmentation.gather(images, [1, 2], seed=1, epoch=1, out=out)
    assert y is out
    assert not np.isnan(out).any()

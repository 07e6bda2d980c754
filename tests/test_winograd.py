"""Winograd's convolution: three directions, both tile sizes, every remainder, derived bounds."""

import functools

import numpy as np
import pytest
import reference
import tolerance
import winograd_bound
from hypothesis import given, settings
from hypothesis import strategies as st

import pycnn
from pycnn import ops

DIRECTIONS = ("forward", "backward_input", "backward_weight")

# id: (N, H, W, C), OC, padding. Every remainder of the map by 2 and 4, of C and OC by 16 and by the
# register tiles, of the tiles by MR; padding of all kinds, none to more than the window.
CASES = {
    "1x1_image": ((1, 1, 1, 16), 16, 1),
    "2x3_image": ((3, 2, 3, 16), 17, "same"),
    "3x4_image": ((2, 3, 4, 17), 16, "same"),
    "valid_one_output": ((2, 3, 3, 16), 16, "valid"),
    "5x6_image": ((2, 5, 6, 31), 33, "same"),
    "7x7_image": ((3, 7, 7, 16), 48, "same"),
    "8x8_image": ((2, 8, 8, 32), 32, "same"),
    "9x10_image": ((1, 9, 10, 18), 63, "same"),
    "valid": ((2, 10, 9, 16), 16, "valid"),
    "padding_2": ((1, 6, 7, 20), 16, 2),
    "padding_5": ((1, 4, 5, 16), 16, 5),
    "padding_four": ((2, 6, 5, 16), 30, ((0, 3), (2, 1))),
    "few_channels": ((2, 9, 8, 1), 3, "same"),
    "tall": ((1, 37, 3, 16), 16, "same"),
    "fifteen_tiles": ((5, 7, 3, 16), 34, "same"),
    "cut_by_the_last_row": ((3, 7, 8, 18), 20, "same"),
    "cut_by_the_last_column": ((3, 8, 6, 16), 36, "same"),
    "many_tiles": ((6, 14, 14, 32), 64, "same"),
    "deep": ((2, 7, 7, 64), 128, "same"),
    "empty_batch": ((0, 7, 7, 16), 16, "same"),
}


@pytest.fixture(params=["fast", "exact"])
def precision(request):
    before = pycnn.get_precision()
    pycnn.set_precision(request.param)
    yield request.param
    pycnn.set_precision(before)


@functools.cache
def arrays_of(case):
    """(x, weight, bias, dy, pads), read-only."""
    shape, OC, padding = CASES[case]
    rng = np.random.default_rng(sorted(CASES).index(case))
    pads = pycnn.explain_conv2d(shape, (3, 3, shape[3], OC), padding=padding).padding
    OH, OW = (size + sum(pad) - 2 for size, pad in zip(shape[1:3], pads, strict=True))
    arrays = [
        rng.standard_normal(s, dtype=np.float32)
        for s in (shape, (3, 3, shape[3], OC), (OC,), (shape[0], OH, OW, OC))
    ]
    for array in arrays:
        array.flags.writeable = False
    return (*arrays, pads)


@functools.cache
def expected(case, direction, m):
    """(exact, bound) of one direction with tiles of m."""
    x, weight, bias, dy, pads = arrays_of(case)
    if direction == "forward":
        exact = reference.conv2d(x, weight, bias, padding=pads)
        return exact, winograd_bound.conv2d(x, weight, bias, pads, m)
    if direction == "backward_input":
        exact = reference.conv2d_backward_input(dy, weight, x.shape, padding=pads)
        return exact, winograd_bound.conv2d_backward_input(dy, weight, x.shape, pads, m)
    exact = reference.conv2d_backward_weight(x, dy, weight.shape, padding=pads)
    return exact, winograd_bound.conv2d_backward_weight(x, dy, pads, m)


def run(case, direction, **options):
    x, weight, bias, dy, pads = arrays_of(case)
    options = {"padding": pads, "algorithm": "winograd", **options}
    if direction == "forward":
        return ops.conv2d(x, weight, bias, **options)
    if direction == "backward_input":
        return ops.conv2d_backward_input(dy, weight, x.shape, **options)
    return ops.conv2d_backward_weight(x, dy, weight.shape, **options)


def map_size(case, direction):
    x, _, _, dy, _ = arrays_of(case)
    return (x if direction == "backward_input" else dy).shape[1:3]


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("case", CASES)
def test_every_direction_lies_within_its_bound(isa, precision, case, direction):
    exact, bound = expected(
        case, direction, winograd_bound.tile_size(*map_size(case, direction), precision)
    )
    for threads in (1, 3):
        out = np.full(exact.shape, np.nan, np.float32)
        with pycnn.num_threads(threads):
            result = run(case, direction, out=out)
        assert result is out
        tolerance.assert_within(result, exact, bound, f"{precision}, {threads} threads")


@pytest.mark.parametrize("m", [2, 4])
def test_the_formula_of_the_bound_is_a_convolution(rng, m):
    """In float64 the matrices give the reference: a bound from wrong ones would prove nothing."""
    x, weight = rng.standard_normal((2, 9, 7, 3)), rng.standard_normal((3, 3, 3, 4))
    y = reference.conv2d(x, weight, padding=((1, 2), (0, 1)))
    _, OH, OW, _ = y.shape
    np.testing.assert_allclose(
        winograd_bound.filtered(x, weight, OH, OW, 1, 0, m), y, rtol=1e-10, atol=1e-10
    )
    dy = rng.standard_normal(y.shape)
    dweight = reference.conv2d_backward_weight(x, dy, weight.shape, padding=((1, 2), (0, 1)))
    got = winograd_bound.filtered_weight(x, dy, 1, 0, m)
    np.testing.assert_allclose(got, dweight, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_the_bound_notices_a_lost_channel(direction):
    """A result without one of 16 channels (or one of the tiles) lies outside."""
    x, weight, bias, dy, pads = arrays_of("8x8_image")
    x, dy = x.copy(), dy.copy()
    exact, bound = expected("8x8_image", direction, 4)
    x[..., 3] = 0
    dy[..., 5] = 0
    if direction == "forward":
        wrong = reference.conv2d(x, weight, bias, padding=pads)
    elif direction == "backward_input":
        wrong = reference.conv2d_backward_input(dy, weight, x.shape, padding=pads)
    else:
        wrong = reference.conv2d_backward_weight(x, dy, weight.shape, padding=pads)
    with pytest.raises(AssertionError, match="out of bounds"):
        tolerance.assert_within(wrong, exact, bound)


def test_exact_keeps_integers_exact(isa, exact_precision):
    """F(2x2) only halves and quarters: small integers come out without an error."""
    rng = np.random.default_rng(1)
    x = rng.integers(-4, 5, (2, 7, 9, 16)).astype(np.float32)
    weight = rng.integers(-4, 5, (3, 3, 16, 20)).astype(np.float32)
    y = ops.conv2d(x, weight, padding="same", algorithm="winograd")
    np.testing.assert_array_equal(y, reference.conv2d(x, weight, padding="same"))


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_bits_depend_on_neither_threads_nor_isa(precision, direction):
    """The baseline, without a fused multiply-add, has bits of its own."""
    found = {}
    before = pycnn.isa()
    try:
        for isa in pycnn.available_isas():
            pycnn.use_isa(isa)
            for threads in (1, 2, 3, 8):
                with pycnn.num_threads(threads):
                    bits = run("many_tiles", direction).tobytes()
                found.setdefault("baseline" if isa == "baseline" else "fma", set()).add(bits)
    finally:
        pycnn.use_isa(before)
    assert {kind: len(bits) for kind, bits in found.items()} == dict.fromkeys(found, 1)


def test_an_image_has_the_same_bits_alone_and_in_a_batch(isa, precision):
    x, weight, bias, _, _ = arrays_of("many_tiles")
    options = {"padding": "same", "algorithm": "winograd", "activation": "relu"}
    together = ops.conv2d(x, weight, bias, **options)
    alone = [ops.conv2d(x[n : n + 1], weight, bias, **options) for n in range(len(x))]
    np.testing.assert_array_equal(together, np.concatenate(alone))


@pytest.mark.parametrize("OC", [16, 20])
def test_any_number_of_tiles(isa, exact_precision, OC):
    """One tile an image: every height of a register tile, one and two panels wide."""
    rng = np.random.default_rng(2)
    x = rng.integers(-4, 5, (31, 2, 2, 18)).astype(np.float32)
    weight = rng.integers(-4, 5, (3, 3, 18, OC)).astype(np.float32)
    expected = reference.conv2d(x, weight, padding="same")
    with pycnn.num_threads(1):
        for N in range(1, len(x) + 1):
            y = ops.conv2d(x[:N], weight, padding="same", algorithm="winograd")
            np.testing.assert_array_equal(y, expected[:N], err_msg=f"{N} tiles")


@pytest.mark.parametrize("size", [(7, 8), (8, 7), (7, 7), (4, 4)], ids=str)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_products_that_are_left_out_do_not_show(isa, precision, rng, size, direction):
    """A call before leaves NaN where the products of cut tiles would lie."""
    x, dy = (rng.standard_normal((3, *size, C), dtype=np.float32) for C in (17, 20))
    weight = rng.standard_normal((3, 3, 17, 20), dtype=np.float32)
    options = {"padding": "same", "algorithm": "winograd"}

    def call(x, dy):
        if direction == "forward":
            return ops.conv2d(x, weight, **options)
        if direction == "backward_input":
            return ops.conv2d_backward_input(dy, weight, x.shape, **options)
        return ops.conv2d_backward_weight(x, dy, weight.shape, **options)

    with pycnn.num_threads(1):
        y = call(x, dy)
        assert np.isnan(call(np.full_like(x, np.nan), np.full_like(dy, np.nan))).all()
        np.testing.assert_array_equal(call(x, dy), y)


def test_auto_takes_winograd_where_it_pays_and_says_so():
    explained = pycnn.explain_conv2d((100, 14, 14, 32), (3, 3, 32, 64), padding="same")
    assert explained.forward == explained.backward_input == explained.backward_weight == "winograd"
    assert "F(4x4" in str(explained)
    one_channel = pycnn.explain_conv2d((100, 28, 28, 1), (3, 3, 1, 32), padding="same")
    assert one_channel.forward == one_channel.backward_weight == "few_channels"
    for shape, weight, options in (
        ((100, 14, 14, 32), (5, 5, 32, 64), {}),
        ((100, 14, 14, 32), (3, 3, 32, 64), {"stride": 2}),
        ((100, 14, 14, 32), (3, 3, 32, 64), {"dilation": 2}),
        ((100, 1, 1, 64), (3, 3, 64, 64), {"padding": "same"}),  # one tap of nine inside the image
        ((400, 2, 2, 64), (3, 3, 64, 64), {"padding": "same"}),  # 16 taps of 36
        (
            (1, 7, 7, 512),
            (3, 3, 512, 512),
            {"padding": "same"},
        ),  # transforming the weight costs more
    ):
        assert pycnn.explain_conv2d(shape, weight, **options).forward == "direct"


@pytest.mark.parametrize("rim", [((4, 90), (1, 1)), ((90, 4), (1, 1)), ((1, 1), (90, 90))])
def test_a_wide_rim_makes_tiles_but_no_products_of_direct_convolution(rim):
    shape, weight = (4, 28, 28, 64), (3, 3, 64, 64)
    assert pycnn.explain_conv2d(shape, weight, padding=1).forward == "winograd"
    explained = pycnn.explain_conv2d(shape, weight, padding=rim)
    assert explained.forward == explained.backward_weight == "direct"
    assert explained.backward_input == "winograd"  # the rim is no part of dx


def test_the_tallest_rim_is_explained_at_once():
    """Row by row it takes more than a minute."""
    rim = ((2**31 - 1, 2**31 - 1), (0, 0))
    explained = pycnn.explain_conv2d((1, 28, 28, 16), (3, 3, 16, 16), padding=rim)
    assert explained.output_shape == (1, 2**32 + 24, 26, 16)
    assert explained.forward == "direct"


def test_exact_takes_small_tiles(exact_precision):
    assert pycnn.get_precision() == "exact"
    text = str(pycnn.explain_conv2d((100, 14, 14, 32), (3, 3, 32, 64), padding="same"))
    assert "F(2x2" in text
    assert "F(4x4" not in text


def test_precision_refuses_other_modes():
    with pytest.raises(ValueError, match=r"mode is 'best'.*\"fast\" or \"exact\""):
        pycnn.set_precision("best")


@pytest.mark.parametrize(
    ("kernel", "options", "found"),
    [
        ((5, 5, 16, 16), {}, "5 x 5"),
        ((3, 3, 16, 16), {"stride": 2}, "stride 2 x 2"),
        ((3, 3, 16, 16), {"dilation": (1, 2)}, "dilation 1 x 2"),
        ((3, 3, 8, 16), {"groups": 2}, "groups = 2"),
    ],
)
def test_other_shapes_are_refused_by_name(rng, kernel, options, found):
    x = rng.standard_normal((1, 9, 9, 16), dtype=np.float32)
    weight = rng.standard_normal(kernel, dtype=np.float32)
    with pytest.raises(ValueError, match=rf"winograd.*{found}.*\"direct\""):
        ops.conv2d(x, weight, algorithm="winograd", **options)


@pytest.mark.parametrize("activation", [None, "relu"])
def test_a_nan_shows_in_every_window_that_holds_it(isa, precision, rng, activation):
    x = rng.standard_normal((1, 12, 12, 16), dtype=np.float32)
    weight = rng.standard_normal((3, 3, 16, 16), dtype=np.float32)
    x[0, 5, 6, 7] = np.nan
    y = ops.conv2d(x, weight, padding="same", algorithm="winograd", activation=activation)
    assert np.isnan(y[0, 4:7, 5:8]).all()
    far = np.ones((12, 12), bool)
    far[0:12, 4:12] = False  # the tiles of 4 that see the pixel lie in these columns
    assert np.isfinite(y[0, far]).all()


@settings(max_examples=40)
@given(
    image=st.tuples(st.integers(0, 3), st.integers(1, 13), st.integers(1, 13)),
    channels=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    pads=st.tuples(*[st.integers(0, 3)] * 4),
    seed=st.integers(0, 2**20),
)
def test_any_shape(isa, precision, image, channels, pads, seed):
    (N, H, W), (C, OC), (top, bottom, left, right) = image, channels, pads
    OH, OW = H + top + bottom - 2, W + left + right - 2
    if OH < 1 or OW < 1:
        return
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((N, H, W, C), dtype=np.float32)
    weight = rng.standard_normal((3, 3, C, OC), dtype=np.float32)
    dy = rng.standard_normal((N, OH, OW, OC), dtype=np.float32)
    padding = ((top, bottom), (left, right))
    options = {"padding": padding, "algorithm": "winograd"}
    m, m_input = (winograd_bound.tile_size(*size, precision) for size in ((OH, OW), (H, W)))
    exact = reference.conv2d(x, weight, padding=padding)
    bound = winograd_bound.conv2d(x, weight, None, padding, m)
    tolerance.assert_within(ops.conv2d(x, weight, **options), exact, bound, "forward")
    exact = reference.conv2d_backward_input(dy, weight, x.shape, padding=padding)
    bound = winograd_bound.conv2d_backward_input(dy, weight, x.shape, padding, m_input)
    result = ops.conv2d_backward_input(dy, weight, x.shape, **options)
    tolerance.assert_within(result, exact, bound, "backward_input")
    exact = reference.conv2d_backward_weight(x, dy, weight.shape, padding=padding)
    bound = winograd_bound.conv2d_backward_weight(x, dy, padding, m)
    result = ops.conv2d_backward_weight(x, dy, weight.shape, **options)
    tolerance.assert_within(result, exact, bound, "backward_weight")

"""Convolutions where kernels part ways: h unlike w, blocks that are cut, pooled tiles.

Small integers: every sum is exact, so every algorithm must give the numbers of the plain loops.
"""

import functools

import numpy as np
import pytest
import reference

import pycnn
from pycnn import ops


def integers(rng, *shape, size=4):
    return rng.integers(-size, size + 1, shape).astype(np.float32)


# name: x, kernel, OC, algorithm, options. In each, the two axes differ in size, kernel, stride,
# dilation or rim, so that an axis taken for the other one shows.
UNLIKE = {
    "direct_dilation": ((2, 9, 14, 17), (3, 2), 33, "direct", {"dilation": (1, 2), "padding": 1}),
    "direct_stride": ((2, 9, 14, 9), (3, 3), 34, "direct", {"stride": (1, 2), "dilation": (2, 1)}),
    "direct_rim": ((1, 6, 11, 18), (2, 5), 16, "direct", {"padding": ((3, 0), (1, 4))}),
    "direct_phases": (
        (2, 9, 11, 16),  # some phases have no tap
        (2, 1),
        38,
        "direct",
        {"groups": 2, "stride": (3, 2)},
    ),
    "direct_taps": (  # C fills register tiles: the gradient of the weight reads x in place
        (2, 9, 17, 32),
        (2, 3),
        18,
        "direct",
        {"dilation": (2, 1), "padding": ((2, 1), (0, 1))},
    ),
    "direct_taps_stride": (  # two groups; the last column's tap lies outside for all pixels
        (3, 13, 8, 56),
        (3, 3),
        40,
        "direct",
        {"groups": 2, "stride": (2, 3), "dilation": (1, 4), "padding": ((1, 0), (0, 4))},
    ),
    "direct_one_tap": ((2, 9, 17, 32), (1, 1), 18, "direct", {"padding": ((1, 2), (3, 0))}),
    "few_channels_in_place": ((3, 41, 30, 3), (3, 2), 17, "direct", {"stride": (2, 1)}),
    "direct_groups": (
        (2, 8, 11, 24),
        (3, 2),
        50,
        "direct",
        {"groups": 2, "stride": (2, 1), "dilation": (1, 3), "padding": ((0, 1), (2, 1))},
    ),
    "direct_many_slots": ((5, 9, 6, 20), (1, 3), 7, "direct", {"padding": ((2, 1), (0, 2))}),
    "direct_collides": (  # copied with a zero rim, pixels moved apart
        (2, 4, 7, 1024),
        (3, 2),
        17,
        "direct",
        {"stride": (1, 2), "padding": "same"},
    ),
    "direct_one_row": ((1, 1, 37, 16), (1, 4), 40, "direct", {"padding": ((0, 0), (3, 0))}),
    "few_channels_stride": ((2, 23, 91, 3), (3, 2), 17, "direct", {"stride": (1, 2)}),
    "few_channels_blocks": (  # rows of images, of products and of dy are cut
        (2, 41, 520, 4),
        (3, 3),
        18,
        "direct",
        {"stride": (1, 2), "dilation": (2, 3), "padding": ((3, 1), (0, 4))},
    ),
    "few_channels_tall": ((2, 90, 7, 2), (5, 2), 33, "direct", {"stride": (2, 1), "padding": 1}),
    "few_channels_dilation": ((3, 12, 31, 1), (3, 3), 20, "direct", {"dilation": (1, 2)}),
    "depthwise_dilation": ((2, 9, 8, 19), (3, 3), 19, "direct", {"groups": 19, "dilation": (1, 2)}),
    "depthwise_rows": (
        (2, 11, 8, 35),
        (4, 3),
        35,
        "direct",
        {"groups": 35, "stride": (1, 2), "dilation": (2, 1), "padding": ((0, 3), (2, 1))},
    ),
    "depthwise_wide_kernel": ((1, 7, 9, 17), (1, 11), 17, "direct", {"groups": 17, "padding": 5}),
    "depthwise_5x5": (
        (3, 9, 6, 18),
        (5, 5),
        18,
        "direct",
        {"groups": 18, "padding": ((0, 4), (3, 1))},
    ),
    "im2col": (
        (2, 8, 11, 6),
        (3, 2),
        20,
        "im2col",
        {"groups": 2, "stride": (2, 1), "dilation": (1, 2), "padding": ((1, 0), (0, 2))},
    ),
    "naive": (
        (2, 8, 11, 6),
        (3, 2),
        9,
        "naive",
        {"groups": 3, "stride": (1, 2), "dilation": (2, 1), "padding": ((0, 2), (1, 0))},
    ),
}


@functools.lru_cache(maxsize=1)
def problem(case):
    """Arrays, and the three results of the reference's loops."""
    x_shape, kernel, OC, _, options = UNLIKE[case]
    rng = np.random.default_rng(sorted(UNLIKE).index(case))
    x = integers(rng, *x_shape)
    weight = integers(rng, *kernel, x_shape[3] // options.get("groups", 1), OC)
    small = np.prod(x_shape) < 20000
    if small and options.get("groups", 1) < 10:
        given = [
            getattr(reference, f"conv2d{end}")
            for end in ("", "_backward_input", "_backward_weight")
        ]
        given = [functools.partial(function, **options) for function in given]
    else:  # the plain loops in float64, which the other cases compare with the reference
        given = [
            functools.partial(function, **options)
            for function in (ops.conv2d, ops.conv2d_backward_input, ops.conv2d_backward_weight)
        ]
    x64, weight64 = np.float64(x), np.float64(weight)
    y = given[0](x64, weight64)
    dy = integers(rng, *y.shape)
    exact = (
        y,
        given[1](np.float64(dy), weight64, x.shape),
        given[2](x64, np.float64(dy), weight.shape),
    )
    return x, weight, dy, exact


@pytest.mark.parametrize("case", UNLIKE)
def test_the_two_axes_are_not_mixed_up(isa, num_threads, case):
    x, weight, dy, exact = problem(case)
    _, _, OC, algorithm, options = UNLIKE[case]
    how = {**options, "algorithm": algorithm}
    out = [np.full(array.shape, np.nan, np.float32) for array in exact]
    ops.conv2d(x, weight, out=out[0], **how)
    ops.conv2d_backward_input(dy, weight, x.shape, out=out[1], **how)
    ops.conv2d_backward_weight(x, dy, weight.shape, out=out[2], **how)
    for got, expected, name in zip(out, exact, ("y", "dx", "dweight"), strict=True):
        np.testing.assert_array_equal(got, expected, err_msg=name)
    bias = np.arange(OC, dtype=np.float32) - OC // 2
    residual = dy
    y = ops.conv2d(x, weight, bias, activation="relu", residual=residual, **how)
    np.testing.assert_array_equal(y, np.maximum(exact[0] + bias + residual, 0))
    y = ops.conv2d(x, weight, bias, activation="relu", **how)
    np.testing.assert_array_equal(y, np.maximum(exact[0] + bias, 0))


# Every remainder of the map by 4, with another one of the width; channels of one panel, of a whole
# and a part of one, of several.
MAPS = [
    (4, 7, 20, 17),
    (5, 6, 16, 33),
    (6, 9, 18, 16),
    (7, 4, 16, 48),
    (9, 5, 33, 31),
    (2, 3, 16, 18),
]


@pytest.mark.parametrize("pool_padding", ["valid", "same"])
@pytest.mark.parametrize(("H", "W", "C", "OC"), MAPS)
def test_pooled_tiles_are_the_pool_of_the_map(isa, rng, H, W, C, OC, pool_padding):
    """Values, ties, NaN, with bias and without, in tiles of 2 (exactly the reference) and of 4."""
    x, weight, bias = integers(rng, 2, H, W, C), integers(rng, 3, 3, C, OC), integers(rng, OC)
    x[1, H - 1, 0, 3] = np.nan
    conv = {"padding": "same", "algorithm": "winograd"}
    exact = reference.conv2d(np.nan_to_num(x), weight, padding="same")
    before = pycnn.get_precision()
    try:
        for precision in ("exact", "fast"):
            pycnn.set_precision(precision)
            named = ops.conv2d(x, weight, **conv)
            if precision == "exact":
                np.testing.assert_array_equal(named[0], exact[0])
            pooled, indices = reference.max_pool2d(named, 2, padding=pool_padding)
            for b, relu in ((bias, True), (None, True), (bias, False), (None, False)):
                how = {**conv, "pool_padding": pool_padding, "relu": relu}
                y, where = ops.conv_pool(x, weight, b, return_where=True, **how)
                expected = np.float32(pooled) + (0 if b is None else b)
                expected = np.where(expected < 0, 0, expected) if relu else expected
                np.testing.assert_array_equal(y, expected)
                rows = 2 * np.arange(y.shape[1])[:, None, None] + where // 2
                cols = 2 * np.arange(y.shape[2])[:, None] + where % 2
                np.testing.assert_array_equal(rows * W + cols, indices)
                np.testing.assert_array_equal(ops.conv_pool(x, weight, b, **how), y)
    finally:
        pycnn.set_precision(before)


@pytest.mark.parametrize(
    ("x_shape", "kernel", "C_out", "options"),
    [
        ((3, 9, 14, 18), (3, 2), 20, {"stride": (1, 2), "dilation": (2, 1), "padding": "same"}),
        ((2, 7, 10, 3), (2, 3), 35, {"stride": (1, 2), "padding": ((0, 1), (2, 0))}),
        ((2, 9, 7, 1), (3, 2), 18, {"padding": ((1, 1), (0, 1))}),  # odd maps: cut windows
        ((9, 6, 11, 35), (3, 2), 17, {"padding": ((0, 3), (1, 0))}),
        ((2, 7, 9, 16), (3, 3), 20, {"groups": 2, "padding": "same"}),
        ((5, 13, 11, 5), (5, 3), 70, {"padding": ((2, 1), (0, 1))}),
        ((2, 41, 33, 5), (3, 2), 30, {"padding": "same", "dilation": (1, 2)}),  # image by image
        ((1, 40, 33, 17), (3, 3), 130, {"padding": "same"}),  # the weights of some channels in L1
    ],
)
@pytest.mark.parametrize("pool_padding", ["valid", "same"])
def test_conv_pool_and_its_gradients(
    isa, num_threads, rng, x_shape, kernel, C_out, options, pool_padding
):
    x = integers(rng, *x_shape, size=2)
    weight = integers(rng, *kernel, x_shape[3] // options.get("groups", 1), C_out, size=2)
    bias = integers(rng, C_out)
    how = {**options, "pool_padding": pool_padding}
    before = pycnn.get_precision()
    pycnn.set_precision("exact")
    try:
        y, where = ops.conv_pool(x, weight, bias, return_where=True, **how)
        exact = ops.conv2d(np.float64(x), np.float64(weight), np.float64(bias), **options)
        pooled, indices = ops.max_pool2d(exact, 2, padding=pool_padding, return_indices=True)
        np.testing.assert_array_equal(y, np.maximum(pooled, 0))
        OW = exact.shape[2]
        rows = 2 * np.arange(y.shape[1])[:, None, None] + where // 2
        np.testing.assert_array_equal(
            rows * OW + 2 * np.arange(y.shape[2])[:, None] + where % 2, indices
        )
        spoilt = x.copy()
        spoilt[0, 2, 3, 0] = np.nan
        spoilt_map = ops.conv2d(np.float64(spoilt), np.float64(weight), **options)
        pooled = ops.max_pool2d(spoilt_map, 2, padding=pool_padding)
        for relu in (True, False):
            got = ops.conv_pool(spoilt, weight, relu=relu, algorithm="direct", **how)
            np.testing.assert_array_equal(got, np.where(relu & (pooled < 0), 0, pooled))
        dy = integers(rng, *y.shape, size=2)
        for relu in (True, False):
            g = np.where(y > 0, dy, 0) if relu else dy
            g = ops.max_pool2d_backward(np.float64(g), indices, exact.shape)
            dweight = ops.conv2d_backward_weight(np.float64(x), g, weight.shape, **options)
            dx = ops.conv2d_backward_input(g, np.float64(weight), x.shape, **options)
            for wanted in (True, False):
                got = ops.conv_pool_backward(
                    dy, y, where, x, weight, relu=relu, input_gradient=wanted, **how
                )
                np.testing.assert_array_equal(got.dweight, dweight)
                np.testing.assert_array_equal(got.dbias, g.sum(axis=(0, 1, 2)))
                if wanted:
                    np.testing.assert_array_equal(got.dx, dx)
    finally:
        pycnn.set_precision(before)


# name: x, OC, kernel, padding, algorithm. Sums that are cut: by blocks of tiles, by chunks of
# images or of patches; each part but the first adds to what stands there.
CUT = {
    "winograd_blocks": ((7, 13, 14, 64), 130, (3, 3), "same", "winograd"),
    "winograd_few_tiles": ((1, 5, 4, 33), 260, (3, 3), "same", "winograd"),
    "im2col_batches": ((7, 40, 41, 16), 40, (5, 5), "same", "im2col"),
    "im2col_batches_narrow": ((7, 40, 41, 16), 9, (5, 5), "same", "im2col"),
    "direct_blocks": ((9, 33, 31, 24), 20, (3, 2), "same", "direct"),
}


@pytest.mark.parametrize("case", CUT)
@pytest.mark.usefixtures("exact_precision")
def test_parts_of_a_sum_add_up(isa, case):
    x_shape, OC, kernel, padding, algorithm = CUT[case]
    rng = np.random.default_rng(3)
    x, weight = integers(rng, *x_shape, size=2), integers(rng, *kernel, x_shape[3], OC, size=2)
    dy = integers(rng, *x_shape[:3], OC, size=2)
    other = {"winograd": "direct", "im2col": "direct", "direct": "im2col"}[algorithm]
    results = []
    for name in (algorithm, other):
        how = {"padding": padding, "algorithm": name}
        results.append(
            (
                ops.conv2d(x, weight, **how),
                ops.conv2d_backward_input(dy, weight, x.shape, **how),
                ops.conv2d_backward_weight(x, dy, weight.shape, **how),
            )
        )
    for got, expected, what in zip(*results, ("y", "dx", "dweight"), strict=True):
        np.testing.assert_array_equal(got, expected, err_msg=what)


def test_threads_that_take_channels_take_their_biases(isa, num_threads):
    """Two images of 7 x 7 are too few tiles for all threads, so they take panels."""
    rng = np.random.default_rng(2)
    x, weight, bias = integers(rng, 2, 7, 7, 256), integers(rng, 3, 3, 256, 250), integers(rng, 250)
    how = {"padding": "same", "algorithm": "winograd"}
    bare = ops.conv2d(x, weight, **how)
    np.testing.assert_array_equal(ops.conv2d(x, weight, bias, **how), bare + bias)
    np.testing.assert_array_equal(ops.conv2d(x, weight, residual=bare, **how), bare + bare)
    y = ops.conv_pool(x, weight, bias, relu=False, pool_padding="same", **how)
    np.testing.assert_array_equal(y, ops.max_pool2d(bare, 2, padding="same") + bias)
    how["algorithm"] = "direct"
    bare = ops.conv2d(x[:, :3, :4], weight, **how)
    np.testing.assert_array_equal(ops.conv2d(x[:, :3, :4], weight, bias, **how), bare + bias)


@pytest.mark.parametrize("OC", [32, 33])
def test_a_map_larger_than_the_caches_is_streamed(isa, small_caches, OC):
    """Half of L3 and an address that is a multiple of 64 bytes; 33 channels are not streamed."""
    rng = np.random.default_rng(1)
    x, weight, bias = integers(rng, 1, 61, 69, 5), integers(rng, 1, 1, 5, OC), integers(rng, OC)
    room = np.full(61 * 69 * OC + 16, np.nan, np.float32)
    start = -room.ctypes.data % 64 // 4
    out = room[start : start + 61 * 69 * OC].reshape(1, 61, 69, OC)
    ops.conv2d(x, weight, bias, activation="relu", out=out)
    exact = np.maximum(x.reshape(-1, 5) @ weight[0, 0] + bias, 0)
    np.testing.assert_array_equal(out.reshape(-1, OC), exact)
    assert np.isnan(room[:start]).all()
    assert np.isnan(room[start + out.size :]).all()

"""First layers, images of few channels: each remainder of taps, channels and rows, and NaN.

Small integers: the sums are exact, so every way to add them gives the same numbers.
"""

import numpy as np
import pytest
import reference

from pycnn import ops

OUTPUTS = (1, 6, 15, 16, 17, 31, 32, 33, 64)  # channels: less and more than a vector, or two
TAPS = [(1, k) for k in range(1, 17)] + [(2, 9), (3, 9), (5, 5), (4, 7), (6, 6), (7, 7)]


def integers(rng, *shape):
    return rng.integers(-4, 5, shape).astype(np.float32)


def problem(x_shape, kernel, OC, **options):
    rng = np.random.default_rng(0)
    windows = reference.Windows(
        x_shape[1:3], kernel, **{"stride": 1, "padding": "valid", **options}
    )
    x, weight = integers(rng, *x_shape), integers(rng, *kernel, x_shape[3], OC)
    return x, weight, integers(rng, x_shape[0], windows.OH, windows.OW, OC)


@pytest.mark.parametrize("OC", OUTPUTS)
def test_every_number_of_taps(isa, OC):
    for KH, KW in TAPS:
        x, weight, dy = problem((2, 8, 19, 1), (KH, KW), OC, padding="same")
        how = {"padding": "same"}
        bias = integers(np.random.default_rng(1), OC)
        for got, exact in (
            (
                ops.conv2d(x, weight, bias, **how),
                ops.conv2d(x, weight, bias, **how, algorithm="naive"),
            ),
            (
                ops.conv2d_backward_weight(x, dy, weight.shape, **how),
                ops.conv2d_backward_weight(x, dy, weight.shape, **how, algorithm="naive"),
            ),
        ):
            np.testing.assert_array_equal(got, exact, err_msg=f"{KH} x {KW} -> {OC}")


# name: (N, H, W, C), (KH, KW), options
SHAPES = {
    "few_outputs": ((1, 2, 3, 1), (2, 2), {}),
    "one_output": ((1, 3, 3, 3), (3, 3), {}),
    "wide": ((2, 9, 1201, 3), (3, 3), {"padding": "same"}),
    "tall": ((1, 301, 40, 4), (3, 3), {"padding": "same"}),
    "many_images": ((67, 12, 11, 2), (3, 2), {"padding": "same"}),
    "rim_of_one_side": ((3, 20, 17, 3), (3, 3), {"padding": ((0, 2), (1, 0))}),
    "rim_wider_than_kernel": ((3, 5, 6, 2), (2, 2), {"padding": 4}),
    "5x5": ((3, 40, 120, 3), (5, 5), {"padding": "same"}),
    "valid": ((5, 40, 50, 6), (5, 5), {}),
    "stride_2": ((3, 41, 121, 3), (3, 3), {"stride": 2, "padding": 1}),
    "stride_2_3": ((2, 40, 110, 4), (5, 4), {"stride": (2, 3), "padding": "same"}),
    "stride_gt_kernel": ((3, 14, 13, 3), (2, 2), {"stride": 3}),
    "stride_gt_image": ((2, 3, 2, 3), (1, 1), {"stride": 5}),
    "dilated": ((2, 30, 70, 3), (3, 3), {"dilation": (3, 2), "padding": "same"}),
    "dilated_stride": ((2, 31, 70, 2), (3, 3), {"dilation": 2, "stride": (3, 2), "padding": 3}),
    "7x7": ((2, 40, 41, 3), (7, 7), {"stride": 2, "padding": 3}),
    "8_channels": ((3, 20, 21, 8), (3, 3), {"padding": "same"}),
}


@pytest.mark.parametrize("OC", [1, 7, 40])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape(isa, num_threads, shape, OC):
    x_shape, kernel, options = SHAPES[shape]
    x, weight, dy = problem(x_shape, kernel, OC, **options)
    results = []
    for algorithm in ("auto", "naive"):
        how = {**options, "algorithm": algorithm}
        dx = np.full(x_shape, np.nan, np.float32)
        results.append(
            (
                ops.conv2d(x, weight, **how, out=np.full_like(dy, np.nan)),
                ops.conv2d_backward_input(dy, weight, x_shape, **how, out=dx),
                ops.conv2d_backward_weight(x, dy, weight.shape, **how),
            )
        )
    for got, exact in zip(*results, strict=True):
        np.testing.assert_array_equal(got, exact)


def numbers(direction, x, weight, dy, options):
    """Where this direction gives a number, not NaN."""
    if direction == "backward_input":
        result = ops.conv2d_backward_input(dy, weight, x.shape, **options)
    else:
        result = ops.conv2d_backward_weight(x, dy, weight.shape, **options)
    return ~np.isnan(result)


@pytest.mark.parametrize("direction", ["backward_input", "backward_weight"])
@pytest.mark.parametrize("OC", [6, 17])
@pytest.mark.parametrize("C", [1, 3])
def test_a_nan_shows_in_its_own_window_and_channel_only(isa, direction, C, OC):
    """Lanes past a row or past the last channel compute with neighbours, and are dropped."""
    options = {"padding": "same"}
    x, weight, dy = problem((3, 6, 21, C), (3, 3), OC, **options)
    for n, h, w in [(0, 0, 0), (1, 0, 20), (1, 3, 9), (2, 5, 0), (2, 5, 20)]:
        bad = dy.copy()
        bad[n, h, w, OC // 2] = np.nan
        got = numbers(direction, x, weight, bad, options)
        if direction == "backward_weight":
            assert not got[..., OC // 2].any()
            assert got[..., : OC // 2].all()
            assert got[..., OC // 2 + 1 :].all()
        else:
            window = (n, slice(max(h - 1, 0), h + 2), slice(max(w - 1, 0), w + 2))
            assert not got[window].any()
            got[window] = True
            assert got.all()

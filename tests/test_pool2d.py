"""Pooling: maxima exactly, means within the bound, ties, NaN, padding, overlapping windows."""

import functools

import _pycnn
import numpy as np
import pytest
import reference
import tolerance
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import pycnn
from pycnn import ops

VL = 16  # floats in a vector, on every instruction set
CHANNELS = {"c_1": 1, "c_lt_vl": VL - 1, "c_eq_vl": VL, "c_gt_vl": VL + 1, "c_tail": 3 * VL + 5}
# id: (H, W), kernel_size, options
CASES = {
    "lecture": ((7, 6), [1, 2, 2, 1], {"stride": [1, 2, 2, 1], "padding": "SAME"}),
    "2x2": ((6, 8), 2, {}),
    "2x2_leaves_a_rest": ((7, 5), 2, {}),
    "rows_leave_a_rest": ((7, 6), 2, {}),
    "columns_leave_a_rest": ((6, 7), 2, {}),
    "3x2": ((7, 7), (3, 2), {"stride": (2, 1)}),
    "overlap": ((6, 7), 3, {"stride": 1, "padding": "same"}),
    "overlap_stride_2": ((9, 8), 3, {"stride": 2, "padding": 1}),
    "gaps": ((8, 9), 2, {"stride": (3, 4)}),
    "padding_pair": ((5, 6), (3, 2), {"stride": 2, "padding": (2, 1)}),
    "padding_four": ((5, 4), 3, {"stride": 2, "padding": ((2, 0), (1, 2))}),
    "1x1_image": ((1, 1), 1, {}),
    "1x1_image_padded": ((1, 1), 3, {"stride": 1, "padding": 1}),
    "window_gt_image": ((2, 3), (3, 4), {"stride": 1, "padding": ((1, 2), (2, 1))}),
    "whole_image": ((4, 5), (4, 5), {}),
    "whole_columns": ((9, 6), (5, 3), {"stride": (4, 3), "padding": (1, 0)}),
    "tiles_and_padding": ((5, 6), (3, 4), {"padding": (1, 1)}),
    "1x1_window": ((3, 4), 1, {"stride": 2}),
    "same_stride_3": ((8, 10), 2, {"stride": 3, "padding": "same"}),
}
every_case = pytest.mark.parametrize("case", CASES)
every_channels = pytest.mark.parametrize("C", CHANNELS.values(), ids=CHANNELS)


def image(case, C, kind):
    (H, W), kernel_size, options = CASES[case]
    rng = np.random.default_rng((sorted(CASES).index(case), C))
    x = rng.standard_normal((2, H, W, C), np.float32)
    if kind == "ties":
        x = np.round(x)
    if kind == "nan":
        x = np.round(x)
        x[rng.random(x.shape) < 0.2] = np.nan
        x[rng.random(x.shape) < 0.2] = -np.inf
        x[rng.random(x.shape) < 0.1] = np.inf
    x.flags.writeable = False
    return x, kernel_size, options


@functools.cache
def maxima(case, C, kind):
    x, kernel_size, options = image(case, C, kind)
    return reference.max_pool2d(x, kernel_size, **options)


@pytest.mark.parametrize("kind", ["normal", "ties", "nan"])
@every_channels
@every_case
def test_maxima_and_indices_are_exact(isa, num_threads, case, C, kind):
    x, kernel_size, options = image(case, C, kind)
    exact, exact_indices = maxima(case, C, kind)
    y, indices = ops.max_pool2d(x, kernel_size, return_indices=True, **options)
    assert indices.dtype == np.int32
    np.testing.assert_array_equal(y, exact)
    np.testing.assert_array_equal(indices, exact_indices)
    np.testing.assert_array_equal(ops.max_pool2d(x, kernel_size, **options), exact)


def test_padding_never_wins(isa):
    """Not even over -inf, and not as a zero over negative numbers."""
    for value in (-np.inf, -3.0, np.nan):
        x = np.full((1, 3, 3, 18), value, np.float32)
        y, indices = ops.max_pool2d(x, 3, stride=1, padding=((2, 2), (2, 2)), return_indices=True)
        np.testing.assert_array_equal(y, np.full((1, 5, 5, 18), value))
        assert indices.min() == 0
        assert indices.max() == 8
        np.testing.assert_array_equal(indices[0, :, :, 0], indices[0, :, :, 17])


def test_equal_zeros_of_either_sign_tie(isa):
    for zeros in ([0.0, -0.0], [-0.0, 0.0]):
        x = np.array(zeros, np.float32).reshape(1, 1, 2, 1)
        _, indices = ops.max_pool2d(x, (1, 2), return_indices=True)
        assert indices.item() == 0


@every_channels
@every_case
def test_the_gradient_goes_to_the_winners(isa, num_threads, case, C):
    x, _, _ = image(case, C, "ties")
    y, indices = maxima(case, C, "ties")
    rng = np.random.default_rng(C)
    dy = np.float32(rng.integers(-9, 10, y.shape))
    out = np.full(x.shape, np.nan, np.float32)
    dx = ops.max_pool2d_backward(dy, indices, x.shape, out=out)
    np.testing.assert_array_equal(dx, reference.max_pool2d_backward(dy, indices, x.shape))
    dy = rng.standard_normal(y.shape, np.float32)
    dx = ops.max_pool2d_backward(dy, indices, x.shape)
    exact = reference.max_pool2d_backward(dy, indices, x.shape)
    tolerance.assert_within(dx, exact, tolerance.max_pool2d_backward(dy, indices, x.shape))


@pytest.mark.parametrize("include", [False, True], ids=["count_pixels", "count_padding"])
@every_channels
@every_case
def test_means_and_their_gradient(isa, num_threads, case, C, include):
    x, kernel_size, options = image(case, C, "normal")
    options = {**options, "count_include_pad": include}
    exact = reference.avg_pool2d(x, kernel_size, **options)
    y = ops.avg_pool2d(x, kernel_size, **options)
    tolerance.assert_within(y, exact, tolerance.avg_pool2d(x, kernel_size, **options))
    dy = np.random.default_rng(C).standard_normal(y.shape, np.float32)
    shape = {"input_shape": x.shape, "kernel_size": kernel_size, **options}
    out = np.full(x.shape, np.nan, np.float32)
    dx = ops.avg_pool2d_backward(dy, **shape, out=out)
    exact = reference.avg_pool2d_backward(dy, **shape)
    tolerance.assert_within(dx, exact, tolerance.avg_pool2d_backward(dy, **shape))


def test_padding_is_not_counted_unless_asked(isa):
    ones = np.ones((1, 3, 3, 1), np.float32)
    options = {"stride": 2, "padding": 1}
    np.testing.assert_array_equal(ops.avg_pool2d(ones, 3, **options), np.ones((1, 2, 2, 1)))
    counted = ops.avg_pool2d(ones, 3, count_include_pad=True, **options)
    np.testing.assert_allclose(counted, np.full((1, 2, 2, 1), 4 / 9), rtol=tolerance.gamma(11))


def test_nan_spreads_to_its_windows_only(isa):
    x = np.ones((1, 4, 4, 17), np.float32)
    x[0, 1, 1, 16] = np.nan
    y = ops.avg_pool2d(x, 2)
    assert np.isnan(y[0, 0, 0, 16])
    y[0, 0, 0, 16] = 1
    np.testing.assert_array_equal(y, np.ones_like(y))


@settings(max_examples=150)
@given(
    shape=st.tuples(
        st.integers(0, 3), st.integers(1, 9), st.integers(1, 9), st.integers(1, 2 * VL + 3)
    ),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.one_of(st.none(), st.tuples(st.integers(1, 5), st.integers(1, 5))),
    pads=st.one_of(st.just("same"), st.lists(st.integers(0, 3), min_size=4, max_size=4)),
    seed=st.integers(0, 99),
)
def test_any_pool(isa, shape, kernel, stride, pads, seed):
    """Any window, stride and padding, on numbers full of ties, NaN and infinities."""
    padding = pads
    if pads != "same":
        padding = tuple(
            tuple(min(pad, taps - 1) for pad in side)
            for side, taps in zip((pads[:2], pads[2:]), kernel, strict=True)
        )
    windows = reference.Windows(shape[1:3], kernel, stride or kernel, padding)
    assume(windows.OH > 0 and windows.OW > 0)
    rng = np.random.default_rng(seed)
    values = [-np.inf, -1, 0, 1, 2, np.inf, np.nan]
    x = rng.choice(np.float32(values), shape)
    y, indices = ops.max_pool2d(x, kernel, stride=stride, padding=padding, return_indices=True)
    exact, exact_indices = reference.max_pool2d(x, kernel, stride, padding)
    np.testing.assert_array_equal(y, exact)
    np.testing.assert_array_equal(indices, exact_indices)
    dy = np.float32(rng.integers(-9, 10, y.shape))
    dx = ops.max_pool2d_backward(dy, indices, shape)
    np.testing.assert_array_equal(dx, reference.max_pool2d_backward(dy, indices, shape))


def test_an_image_with_more_pixels_than_an_index_counts_is_refused():
    """Asked of the shape alone, which takes no memory."""
    assert ops.pool2d_output_shape((1, 46340, 46340, 1), 2) == (1, 23170, 23170, 1)
    with pytest.raises(ValueError, match=r"4294967296 pixels.*2\^31 - 1.*int32"):
        ops.pool2d_output_shape((1, 65536, 65536, 1), 2)


def test_the_order_of_height_and_width_in_every_way_to_write_two_sizes(rng):
    x = rng.standard_normal((2, 9, 7, 3), np.float32)
    kernel, stride = (3, 2), (1, 2)
    exact, _ = reference.max_pool2d(x, kernel, stride)
    for size, step in (
        (kernel, stride),
        ([1, *kernel, 1], [1, *stride, 1]),
        (list(kernel), np.array(stride)),
    ):
        np.testing.assert_array_equal(ops.max_pool2d(x, size, stride=step), exact)
        assert ops.pool2d_output_shape(x.shape, size, stride=step) == exact.shape


@pytest.mark.skipif(not _pycnn.has_openmp(), reason="every operator runs on one thread")
@pytest.mark.parametrize("C", [1, 40])
@pytest.mark.parametrize(("N", "kernel", "stride"), [(1, 3, 1), (3, 3, 2), (3, 2, 2)])
def test_few_images_are_cut_into_bands(isa, N, C, kernel, stride):
    """Their gradients add in the order of the windows, whichever band a pixel is of."""
    rng = np.random.default_rng(4)
    shape = (N, 83 if C > 1 else 401, 71 if C > 1 else 307, C)
    x = np.float32(rng.integers(-9, 9, shape))
    options = {"stride": stride, "padding": kernel // 2 if kernel == 3 else 0}
    y, where = ops.max_pool2d(x, kernel, return_indices=True, **options)
    dy = rng.standard_normal(y.shape, np.float32)
    expected = np.zeros(shape, np.float32).reshape(N, -1, C)
    n, c = np.arange(N)[:, None, None, None], np.arange(C)
    np.add.at(expected, (n, where, c), dy)
    means = []
    for threads in (1, 2, 5):
        with pycnn.num_threads(threads):
            _pycnn.last_team_size()
            dx = ops.max_pool2d_backward(dy, where, shape, out=np.full(shape, np.nan, np.float32))
            out = np.full(shape, np.nan, np.float32)
            means.append(ops.avg_pool2d_backward(dy, shape, kernel, out=out, **options))
            assert (_pycnn.last_team_size() > 1) == (threads > 1)
        np.testing.assert_array_equal(dx.reshape(expected.shape), expected)
        np.testing.assert_array_equal(means[-1], means[0])


def test_a_large_window_of_a_map_larger_than_the_caches(isa, small_caches, rng):
    """It is fetched ahead: the bits are those of its images alone."""
    x = rng.standard_normal((9, 9, 8, 210), np.float32)
    for kernel in ((9, 8), (5, 4)):
        whole = ops.avg_pool2d(x, kernel)
        for n in range(9):
            np.testing.assert_array_equal(ops.avg_pool2d(x[n : n + 1], kernel)[0], whole[n])

"""conv2d in its three directions: every algorithm against the reference, on shapes of all kinds."""

import functools
import itertools
import re

import numpy as np
import pytest
import reference
import tolerance
import winograd_bound
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import pycnn
from pycnn import ops

DIRECTIONS = ("forward", "backward_input", "backward_weight")
ALGORITHMS = ("naive", "im2col", "direct", "auto")
KINDS = ("integers", "normal")

# id: (N, H, W, C), (KH, KW, OC), options
CASES = {
    "1x1": ((2, 5, 4, 16), (1, 1, 33), {}),
    "1x1_stride_2": ((2, 5, 4, 17), (1, 1, 8), {"stride": 2}),
    # pixels 4 KB apart, whose lines collide in L1: the block is copied with gaps
    "1x1_c_1024": ((2, 3, 5, 1024), (1, 1, 17), {}),
    "1x1_oc_1024": ((2, 3, 5, 17), (1, 1, 1024), {}),
    "3x3_c_512_stride_2": ((1, 5, 7, 512), (3, 3, 16), {"stride": 2, "padding": 1}),
    "groups_2_c_1024": ((1, 4, 3, 1024), (2, 1, 32), {"groups": 2, "padding": "same"}),
    "3x3_same": ((2, 7, 6, 16), (3, 3, 16), {"padding": "same"}),
    "3x3_valid_c_32": ((1, 5, 9, 32), (3, 3, 33), {}),
    "3x3_c_17_oc_17": ((2, 6, 5, 17), (3, 3, 17), {"padding": 1}),
    "3x3_c_1": ((3, 8, 8, 1), (3, 3, 32), {"padding": "same"}),
    "3x3_c_2": ((2, 7, 7, 2), (3, 3, 8), {"padding": "same"}),
    "3x3_c_3_oc_1": ((2, 7, 5, 3), (3, 3, 1), {}),
    "3x3_wide_image": ((1, 3, 37, 16), (3, 3, 16), {"padding": "same"}),
    "5x5_same": ((2, 7, 8, 3), (5, 5, 17), {"padding": "SAME"}),
    "5x5_c_1": ((2, 9, 9, 1), (5, 5, 8), {}),
    "2x3": ((2, 6, 7, 16), (2, 3, 8), {"padding": "same"}),
    "1x7": ((2, 4, 9, 3), (1, 7, 16), {"padding": (0, 3)}),
    "lecture_stride": ((2, 7, 6, 3), (3, 3, 8), {"stride": [1, 2, 2, 1], "padding": "SAME"}),
    "stride_2_same": ((2, 8, 7, 16), (3, 3, 17), {"stride": 2, "padding": "same"}),
    "stride_3_same": ((2, 8, 10, 3), (5, 5, 8), {"stride": 3, "padding": "same"}),
    "stride_2_1": ((2, 8, 7, 17), (3, 3, 16), {"stride": (2, 1), "padding": 1}),
    "stride_gt_kernel": ((2, 9, 8, 3), (2, 2, 8), {"stride": 3}),
    "stride_gt_kernel_same": ((1, 8, 8, 16), (1, 2, 16), {"stride": (3, 4), "padding": "same"}),
    "stride_leaves_a_rest": ((1, 10, 9, 16), (3, 3, 8), {"stride": 4}),
    "padding_int": ((1, 5, 5, 2), (3, 3, 17), {"padding": 2}),
    "padding_pair": ((1, 4, 6, 16), (3, 3, 8), {"padding": (2, 0)}),
    "padding_four": ((2, 5, 4, 3), (3, 3, 16), {"padding": ((0, 2), (3, 1))}),
    "padding_four_stride": ((1, 6, 5, 17), (3, 2, 8), {"stride": 2, "padding": ((2, 0), (0, 1))}),
    "padding_wider_than_kernel": ((1, 3, 3, 3), (2, 2, 8), {"padding": 3}),
    "dilation_2": ((2, 8, 9, 3), (3, 3, 16), {"dilation": 2}),
    "dilation_same": ((1, 7, 7, 16), (3, 3, 17), {"dilation": (2, 1), "padding": "same"}),
    "dilation_stride": ((1, 9, 9, 2), (3, 2, 8), {"dilation": 2, "stride": 2, "padding": "same"}),
    "groups_2": ((2, 5, 5, 6), (3, 3, 4), {"groups": 2, "padding": 1}),
    "groups_2_wide": ((1, 5, 5, 32), (3, 3, 34), {"groups": 2, "padding": "same"}),
    "groups_stride": ((2, 6, 6, 9), (2, 3, 6), {"groups": 3, "stride": 2}),
    "depthwise": ((2, 6, 5, 17), (3, 3, 17), {"groups": 17, "padding": "same"}),
    "depthwise_multiplier": ((1, 5, 6, 3), (3, 3, 6), {"groups": 3, "padding": 1}),
    "depthwise_dilated": ((1, 7, 7, 16), (3, 3, 16), {"groups": 16, "dilation": 2}),
    "1x1_image": ((3, 1, 1, 16), (3, 3, 8), {"padding": "same"}),
    "1x1_image_1x1": ((5, 1, 1, 3), (1, 1, 17), {}),
    "1x1_image_c_1": ((2, 1, 1, 1), (3, 3, 33), {"padding": 1}),
    "kernel_gt_image": ((2, 3, 2, 3), (5, 5, 8), {"padding": 2}),
    "kernel_gt_image_same": ((2, 2, 3, 16), (5, 7, 16), {"padding": "same"}),
    "kernel_eq_image": ((3, 4, 5, 8), (4, 5, 33), {}),
    "empty_batch": ((0, 5, 5, 3), (3, 3, 8), {"padding": 1}),
    "lecture_conv1": ((4, 28, 28, 1), (3, 3, 32), {"padding": "same"}),
    "lecture_conv2": ((4, 14, 14, 32), (3, 3, 64), {"padding": "same"}),
    "lecture_conv3": ((4, 7, 7, 64), (3, 3, 128), {"padding": "same"}),
    "last_rows_unseen": ((1, 6, 6, 3), (2, 2, 8), {"stride": 4}),
}


@functools.cache
def arrays_of(case, kind):
    """(x, weight, bias, dy, options), read-only: small integers or normal numbers."""
    (N, H, W, C), (KH, KW, OC), options = CASES[case]
    rng = np.random.default_rng(sorted(CASES).index(case))
    geometry = {key: value for key, value in options.items() if key != "groups"}
    windows = reference.Windows((H, W), (KH, KW), **{"stride": 1, "padding": "valid", **geometry})
    weight_shape = (KH, KW, C // options.get("groups", 1), OC)
    arrays = []
    for shape in ((N, H, W, C), weight_shape, (OC,), (N, windows.OH, windows.OW, OC)):
        integers = kind == "integers"
        array = rng.integers(-4, 5, shape) if integers else rng.standard_normal(shape)
        array = array.astype(np.float32)
        array.flags.writeable = False
        arrays.append(array)
    return (*arrays, options)


def call(module, direction, case, kind, **extra):
    """One direction of a case by this module: pycnn's ops, the reference or the bounds."""
    x, weight, bias, dy, options = arrays_of(case, kind)
    if direction == "forward":
        return module.conv2d(x, weight, bias, **options, **extra)
    if direction == "backward_input":
        return module.conv2d_backward_input(dy, weight, x.shape, **options, **extra)
    return module.conv2d_backward_weight(x, dy, weight.shape, **options, **extra)


@functools.cache
def expected(direction, case, kind):
    bound = 0.0 if kind == "integers" else call(tolerance, direction, case, kind)
    return call(reference, direction, case, kind), bound


@functools.cache
def expected_of_auto(direction, case, kind):
    """As `expected`, with Winograd's bound where "auto" takes it: its thirds are not exact."""
    exact, bound = expected(direction, case, kind)
    (N, H, W, C), (KH, KW, OC), options = CASES[case]
    explained = ops.explain_conv2d(
        (N, H, W, C), (KH, KW, C // options.get("groups", 1), OC), **options
    )
    if getattr(explained, direction) != "winograd":
        return exact, bound
    x, weight, bias, dy, _ = arrays_of(case, kind)
    map_size = (H, W) if direction == "backward_input" else dy.shape[1:3]
    m, pads = winograd_bound.tile_size(*map_size), explained.padding
    if direction == "forward":
        return exact, winograd_bound.conv2d(x, weight, bias, pads, m)
    if direction == "backward_input":
        return exact, winograd_bound.conv2d_backward_input(dy, weight, x.shape, pads, m)
    return exact, winograd_bound.conv2d_backward_weight(x, dy, pads, m)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("case", CASES)
def test_every_algorithm_is_right(isa, case, direction):
    """Integers exactly, so that the algorithms agree; normal numbers within the bound."""
    for kind, algorithm, threads in itertools.product(KINDS, ALGORITHMS, (1, 3)):
        known = expected_of_auto if algorithm == "auto" else expected
        exact, bound = known(direction, case, kind)
        out = np.full(exact.shape, np.nan, np.float32)
        with pycnn.num_threads(threads):
            result = call(ops, direction, case, kind, algorithm=algorithm, out=out)
        assert result is out
        tolerance.assert_within(result, exact, bound, f"{algorithm}, {kind}, {threads} threads")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("case", ["3x3_same", "3x3_c_1", "stride_2_same", "groups_2", "1x1"])
def test_bias_and_relu_are_fused(isa, case, algorithm):
    x, weight, bias, _, options = arrays_of(case, "normal")
    with_bias, bound = expected("forward", case, "normal")
    options = {**options, "algorithm": algorithm}
    without = reference.conv2d(x, weight, **CASES[case][2])
    tolerance.assert_within(ops.conv2d(x, weight, **options), without, bound)
    y = ops.conv2d(x, weight, bias, activation="relu", **options)
    tolerance.assert_within(y, np.maximum(with_bias, 0), bound)
    y = ops.conv2d(x, weight, activation="relu", **options)
    tolerance.assert_within(y, np.maximum(without, 0), bound)
    assert (without < 0).any(), "this case does not test relu"


@pytest.mark.parametrize("pixels", range(1, 30))
def test_every_number_of_rows_in_the_last_tile(isa, pixels):
    """Pixels are the rows forward, channels those of the weight's gradient; one block."""
    rng = np.random.default_rng(pixels)
    shapes = ((1, 1, pixels, pixels), (1, 1, pixels, 40), (1, 1, pixels, 40))
    x, weight, dy = (np.float32(rng.integers(-4, 5, shape)) for shape in shapes)
    nan = functools.partial(np.full, fill_value=np.nan, dtype=np.float32)
    np.testing.assert_array_equal(
        ops.conv2d(x, weight, out=nan(dy.shape))[0, 0], x[0, 0] @ weight[0, 0]
    )
    np.testing.assert_array_equal(
        ops.conv2d_backward_input(dy, weight, x.shape, out=nan(x.shape))[0, 0],
        dy[0, 0] @ weight[0, 0].T,
    )
    np.testing.assert_array_equal(
        ops.conv2d_backward_weight(x, dy, weight.shape, out=nan(weight.shape))[0, 0],
        x[0, 0].T @ dy[0, 0],
    )


@pytest.mark.parametrize("kernel", [1, 2])
@pytest.mark.parametrize("OC", [16, 24, 64])
def test_a_map_written_past_the_caches_has_the_bits_of_its_images(isa, small_caches, OC, kernel):
    """Half of L3 in whole, aligned vectors is streamed; its images alone or shifted are not."""
    rng = np.random.default_rng(OC)
    H, W = 97, 2**17 // 97 // OC + 1
    x = rng.standard_normal((2, H // 2 + 1, W, 3), np.float32)
    weight = rng.standard_normal((kernel, 1, 3, OC), np.float32)
    bias = rng.standard_normal(OC, np.float32)

    def forward(x, out):
        return ops.conv2d(
            x, weight, bias, activation="relu", padding=((kernel - 1, 0), (0, 0)), out=out
        )

    def backward_input(x, out):  # of a convolution OC -> 3 that skips every other row of the map
        back = np.ascontiguousarray(weight.transpose(0, 1, 3, 2))
        return ops.conv2d_backward_input(x, back, out.shape, stride=(2, 1), out=out)

    half = np.ascontiguousarray(x[:, :25])  # 48 rows of the map and more
    for function, images, rows in ((forward, x, x.shape[1]), (backward_input, half, 48 + kernel)):
        size = 2 * rows * W * OC
        assert size >= 2**17 > size // 2
        room = np.full(size + 32, np.nan, np.float32)
        start = -room.ctypes.data % 64 // 4
        whole = function(images, room[start : start + size].reshape(2, rows, W, OC)).copy()
        assert np.isnan(room[:start]).all()
        assert np.isnan(room[start + size :]).all()
        shifted = function(images, room[start + 4 : start + 4 + size].reshape(2, rows, W, OC))
        np.testing.assert_array_equal(shifted, whole)
        for n in range(2):
            alone = function(images[n : n + 1], np.full((1, rows, W, OC), np.nan, np.float32))
            np.testing.assert_array_equal(alone[0], whole[n])


@pytest.mark.slow
@pytest.mark.parametrize(("algorithm", "kernel"), [("im2col", 3), ("direct", 3), ("direct", 5)])
def test_a_batch_that_fills_no_scratch_memory_at_once_is_cut_rightly(algorithm, kernel):
    """77 MB of images and 680 MB of patches: the whole is the parts, exactly, on small integers.

    The weight's gradient of the smaller kernel is cut into slots, each copied block by block.
    """
    rng = np.random.default_rng(2)
    x, dy = (rng.integers(-1, 2, (9, 256, 256, C), np.int8).astype(np.float32) for C in (32, 2))
    weight = np.float32(rng.integers(-1, 2, (kernel, kernel, 32, 2)))
    options = {"padding": "same", "algorithm": algorithm}
    parts = (slice(0, 3), slice(3, 9))

    def forward(x):
        return ops.conv2d(x, weight, **options, out=np.full((*x.shape[:3], 2), np.nan, np.float32))

    def backward_input(dy):
        out = np.full((*dy.shape[:3], 32), np.nan, np.float32)
        return ops.conv2d_backward_input(dy, weight, out.shape, **options, out=out)

    for function, argument in ((forward, x), (backward_input, dy)):
        whole = function(argument)
        for part in parts:
            np.testing.assert_array_equal(function(argument[part]), whole[part])
    whole = ops.conv2d_backward_weight(x, dy, weight.shape, **options)
    halves = [
        ops.conv2d_backward_weight(x[part], dy[part], weight.shape, **options) for part in parts
    ]
    assert np.abs(whole).max() < 2**24
    np.testing.assert_array_equal(whole, halves[0] + halves[1])


@pytest.mark.parametrize("case", ["3x3_same", "3x3_c_1", "5x5_same", "1x1", "stride_2_same"])
@pytest.mark.parametrize("algorithm", ["naive", "im2col", "auto"])
@pytest.mark.parametrize("activation", [None, "relu"])
def test_a_nan_shows_in_every_window_that_holds_it(isa, case, algorithm, activation):
    x, weight, _, _, options = arrays_of(case, "normal")
    x = x.copy()
    x[0, 2, 3, 0] = np.nan
    y = ops.conv2d(x, weight, algorithm=algorithm, activation=activation, **options)
    np.testing.assert_array_equal(np.isnan(y), np.isnan(reference.conv2d(x, weight, **options)))


def test_the_bias_gradient_adds_up_many_pixels(isa, num_threads, rng):
    for shape in ((3, 5, 7, 33), (1, 1, 1, 1), (64, 28, 28, 8)):
        dy = rng.standard_normal(shape, np.float32)
        exact, bound = reference.conv2d_backward_bias(dy), tolerance.conv2d_backward_bias(dy)
        tolerance.assert_within(ops.conv2d_backward_bias(dy), exact, bound)


@pytest.mark.parametrize("padding", [((0, 0), (0, 0)), 0, (0, 0), "valid", "VALID"])
def test_every_way_to_write_no_padding(padding):
    x, weight, _, _, _ = arrays_of("3x3_valid_c_32", "normal")
    np.testing.assert_array_equal(ops.conv2d(x, weight, padding=padding), ops.conv2d(x, weight))


@pytest.mark.parametrize("two", [2, (2, 2), [2, 2], [1, 2, 2, 1], np.int64(2)], ids=str)
def test_every_way_to_write_two(two):
    x, weight, _, _, _ = arrays_of("3x3_same", "normal")
    np.testing.assert_array_equal(
        ops.conv2d(x, weight, stride=two), ops.conv2d(x, weight, stride=(2, 2))
    )
    np.testing.assert_array_equal(
        ops.conv2d(x, weight, dilation=two), ops.conv2d(x, weight, dilation=(2, 2))
    )


def explained(input_shape, weight_shape, **options):
    """{direction: the first algorithm that its line names} of what `explain_conv2d` prints."""
    text = str(ops.explain_conv2d(input_shape, weight_shape, **options))
    found = {}
    for direction in DIRECTIONS:
        pattern = rf"^\W*{direction}\b.*?\b({'|'.join((*ALGORITHMS[:3], 'winograd'))})\b(.*)$"
        line = re.search(pattern, text, re.MULTILINE)
        assert line, f"no line for {direction} in:\n{text}"
        assert len(line[2].split()) >= 3, f"no reason for {direction} in:\n{text}"
        found[direction] = line[1]
    return found


@pytest.mark.parametrize("size", [4, 7, 14, 28, 56])
@pytest.mark.parametrize("C", [8, 16, 17, 32, 64])
def test_auto_needs_no_im2col_buffer_for_3x3_stride_1(C, size):
    for batch in (1, 100):
        for padding in ("same", "valid", 1):
            for OC in (8, 33, 64):
                shapes = (batch, size, size, C), (3, 3, C, OC)
                chosen = explained(*shapes, padding=padding)
                assert "im2col" not in chosen.values(), (shapes, padding)


def test_an_explanation_knows_every_case():
    for (N, H, W, C), (KH, KW, OC), options in CASES.values():
        chosen = explained((N, H, W, C), (KH, KW, C // options.get("groups", 1), OC), **options)
        assert set(chosen) == set(DIRECTIONS)


def test_an_explanation_refuses_what_the_operator_refuses():
    with pytest.raises(ValueError, match="weight"):
        ops.explain_conv2d((1, 8, 8, 3), (3, 3, 4, 8))
    with pytest.raises(ValueError, match="padding"):
        ops.explain_conv2d((1, 8, 8, 3), (3, 3, 3, 8), padding="full")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_float64_is_right_or_refused_by_name(rng, algorithm):
    x, weight = rng.standard_normal((1, 5, 5, 3)), rng.standard_normal((3, 3, 3, 4))
    if algorithm in ("im2col", "direct"):
        with pytest.raises(ValueError, match=rf"{algorithm}.*float64"):
            ops.conv2d(x, weight, algorithm=algorithm)
        return
    y = ops.conv2d(x, weight, algorithm=algorithm)
    assert y.dtype == np.float64
    tolerance.assert_within(y, reference.conv2d(x, weight), tolerance.conv2d(x, weight))


pads = st.tuples(st.integers(0, 3), st.integers(0, 3))


@settings(max_examples=150)
@given(
    image=st.tuples(st.integers(0, 3), st.integers(1, 9), st.integers(1, 9)),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    channels=st.tuples(st.integers(1, 18), st.integers(1, 18), st.sampled_from([1, 1, 2, 3])),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    padding=st.one_of(st.just("same"), st.tuples(pads, pads)),
    algorithm=st.sampled_from(["naive", "im2col", "auto"]),
)
def test_any_convolution(
    isa, exact_precision, image, kernel, channels, stride, dilation, padding, algorithm
):
    """Small integers, so every direction is exact, Winograd's F(2x2) included."""
    (N, H, W), (c, oc, groups) = image, channels
    options = {"stride": stride, "padding": padding, "dilation": dilation}
    windows = reference.Windows((H, W), kernel, **options)
    assume(windows.OH > 0 and windows.OW > 0)
    rng = np.random.default_rng(1)
    x, weight, dy = (
        np.float32(rng.integers(-3, 4, shape))
        for shape in (
            (N, H, W, c * groups),
            (*kernel, c, oc * groups),
            (N, windows.OH, windows.OW, oc * groups),
        )
    )
    options["groups"] = groups
    calls = {
        "conv2d": (x, weight),
        "conv2d_backward_input": (dy, weight, x.shape),
        "conv2d_backward_weight": (x, dy, weight.shape),
    }
    for name, arguments in calls.items():
        result = getattr(ops, name)(*arguments, algorithm=algorithm, **options)
        exact = getattr(reference, name)(*arguments, **options)
        np.testing.assert_array_equal(result, exact, name)

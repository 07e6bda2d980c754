"""The compiled network: what does not fit, at any time, is a sentence and no crash."""

import _pycnn
import numpy as np
import pytest
from test_network import close, he, vector

from pycnn.ops.activations import NONE, RELU, parse
from pycnn.ops.conv2d import conv2d_shape
from pycnn.ops.pool2d import pool2d_shape


def combine(net, a, b, y, op="add", size=120):
    net.add_combine(a, b, y, op, (size,), (size,), (size,), NONE)


def doubled(xs, ys):
    ys[0][...] = 2 * xs[0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (([4, 4], [-1], [0], [1], 1), "floats has 2 values and offsets 1"),
        (([4, 4], [-1, -1], [0], [1], 0), "chunk is 0; expected at least one"),
        (([4, 4], [-1, -1], [], [1], 1), "inputs or outputs is empty"),
        (([4, 4], [-1, -1], [0], [], 1), "inputs or outputs is empty"),
        (([4, 4], [-1, -1], [0], [2], 1), "outputs holds 2, but there are 2 values"),
        (([4, 4], [-1, -1], [-1], [1], 1), "inputs holds -1"),
        (([4, 4], [-1, -1], [0, 0], [1], 1), "inputs holds value 0, which is an input or"),
        (([4, 4], [-1, -1], [0], [0], 1), "outputs holds value 0, .* use add_copy"),
        (([4, 0], [-1, -1], [0], [1], 1), r"floats\[1\] is 0; expected 1 to 2\*\*40"),
        (([4, 2**62], [-1, -1], [0], [1], 1), r"floats\[1\] is 4611686018427387904"),
        (([4, 4], [0, -1], [0], [1], 1), r"offsets\[0\] is 0; expected -1 for an input"),
        (([4, 4, 4], [-1, 8, -1], [0], [2], 1), r"offsets\[1\] is 8; expected a multiple of 16"),
        (([4, 4, 4], [-1, -1, -1], [0], [2], 1), r"offsets\[1\] is -1; expected a multiple of 16"),
        (([4, 4, 4], [-1, 2**60, -1], [0], [2], 1), r"offsets\[1\] is 1152921504606846976"),
    ],
)
def test_a_plan_that_does_not_fit(arguments, words):
    with pytest.raises(ValueError, match=f"^Network: {words}"):
        _pycnn.Network(*arguments)


F = np.float32
W, B = np.ones((3, 3, 4, 4), F), np.ones(4, F)
CONV = conv2d_shape("test", (1, 5, 6, 4), W.shape, 1, "same", 1, 1)
POOL = pool2d_shape("test", (1, 5, 6, 4), 2, None, "valid")


def new():
    """0: input, 1: written, 2: not yet, 3: over 1 in part, 4: pooled, 5: output; 6: where 1 is."""
    net = _pycnn.Network(
        [120, 120, 120, 120, 24, 120, 120], [-1, 0, 128, 64, 256, -1, 0], [0], [5], 2
    )
    net.add_affine(0, 1, 1.0, 0.0)
    return net


BAD = {
    "index_high": (
        lambda n: n.add_activation(7, 2, RELU),
        r"add_activation: x is value 7; expected one of 0 \.\. 6",
    ),
    "index_low": (lambda n: n.add_activation(-1, 2, RELU), "add_activation: x is value -1"),
    "index_of_y": (lambda n: n.add_activation(1, 99, RELU), "add_activation: y is value 99"),
    "input_written": (
        lambda n: n.add_activation(1, 0, RELU),
        "y is value 0, an input, .* another value",
    ),
    "input_in_place": (lambda n: n.add_activation(0, 0, RELU), "y is value 0, an input"),
    "not_written": (
        lambda n: n.add_activation(2, 5, RELU),
        "x is value 2, which no step has written",
    ),
    "itself": (lambda n: n.add_activation(2, 2, RELU), "x is value 2, which no step has written"),
    "in_part": (
        lambda n: n.add_activation(1, 3, RELU),
        r"y \(value 3\) lies over x \(value 1\).*same offset",
    ),
    "size": (
        lambda n: n.add_activation(1, 4, RELU),
        "y is value 4 with 24 floats an image; expected 120",
    ),
    "copy": (lambda n: n.add_copy(1, 6), r"y \(value 6\) lies over x \(value 1\).*apart from it"),
    "add_sizes": (lambda n: combine(n, 1, 4, 2), "b is value 4 with 24 floats"),
    "subtract": (
        lambda n: combine(n, 1, 2, 5, "subtract"),
        "b is value 2, which no step has written",
    ),
    "multiply": (lambda n: combine(n, 0, 1, 3, "multiply"), r"lies over b \(value 1\)"),
    "affine": (lambda n: n.add_affine(1, 4, 1.0, 0.0), "add_affine: y is value 4 with 24"),
    "conv_x": (lambda n: n.add_conv2d(4, 2, CONV, W, B, NONE, "none"), "x is value 4 with 24"),
    "conv_y": (
        lambda n: n.add_conv2d(1, 4, CONV, W, B, NONE, "none"),
        "4 with 24 floats an image",
    ),
    "conv_pooled": (lambda n: n.add_conv2d(1, 2, CONV, W, B, NONE, "valid"), "120 .* expected 24"),
    "conv_pooled_silu": (
        lambda n: n.add_conv2d(1, 4, CONV, W, B, parse("silu", "test"), "valid"),
        'activation decreases somewhere, with pool="valid"',
    ),
    "conv_pooled_slope": (
        lambda n: n.add_conv2d(1, 4, CONV, W, B, parse(("leaky_relu", -0.1), "test"), "same"),
        'activation decreases somewhere, with pool="same"',
    ),
    "conv_over_x": (lambda n: n.add_conv2d(1, 6, CONV, W, B, NONE, "none"), "lies over x"),
    "conv_pool": (
        lambda n: n.add_conv2d(1, 2, CONV, W, B, NONE, "SAME"),
        'pool is "SAME"; expect',
    ),
    "conv_residual_pool": (
        lambda n: n.add_conv2d(1, 4, CONV, W, B, NONE, "valid", 0),
        'residual is value 0 with pool="valid"',
    ),
    "conv_residual_size": (
        lambda n: n.add_conv2d(1, 2, CONV, W, B, NONE, "none", 4),
        "residual is value 4",
    ),
    "conv_residual_index": (
        lambda n: n.add_conv2d(1, 2, CONV, W, B, NONE, "none", -2),
        "residual is value -2",
    ),
    "conv_weight": (
        lambda n: n.add_conv2d(1, 2, CONV, W[:2], B, NONE, "none"),
        r"add_conv2d: weight has shape \(2, 3, 4, 4\); expected \(3, 3, 4, 4\)",
    ),
    "conv_bias": (
        lambda n: n.add_conv2d(1, 2, CONV, W, B[:3], NONE, "none"),
        r"bias has shape \(3,\)",
    ),
    "max_pool": (lambda n: n.add_max_pool2d(1, 2, POOL), "add_max_pool2d: y is value 2 with 120"),
    "avg_pool": (lambda n: n.add_avg_pool2d(4, 4, POOL, False), "add_avg_pool2d: x is value 4"),
    "norm_channels": (
        lambda n: n.add_batch_norm(1, 2, *[np.ones(7, F)] * 4, 1e-5, NONE),
        "weight has 7 numbers, but x has 120 floats",
    ),
    "norm_none": (
        lambda n: n.add_batch_norm(1, 2, *[np.ones(0, F)] * 4, 1e-5, NONE),
        r"weight has shape \(0,\); expected at least one number on each axis of \[C\]",
    ),
    "norm_bias": (
        lambda n: n.add_batch_norm(1, 2, B, np.ones(3, F), B, B, 1e-5, NONE),
        r"bias has shape \(3,\)",
    ),
    "norm_rank": (
        lambda n: n.add_batch_norm(1, 2, W, B, B, B, 1e-5, NONE),
        "weight has shape .*expected 1",
    ),
    "norm_eps": (lambda n: n.add_batch_norm(1, 2, B, B, B, B, 0.0, NONE), "eps is 0"),
    "norm_nan": (lambda n: n.add_batch_norm(1, 2, B, B, B, B, np.nan, NONE), "eps is .*nan"),
    "linear_in": (lambda n: n.add_linear(1, 4, np.ones((119, 24), F), None, NONE), "expected 119"),
    "linear_out": (lambda n: n.add_linear(1, 4, np.ones((120, 23), F), None, NONE), "expected 23"),
    "linear_rank": (
        lambda n: n.add_linear(1, 4, np.ones(120, F), None, NONE),
        "weight has shape .*2",
    ),
    "linear_no_out": (
        lambda n: n.add_linear(1, 4, np.ones((120, 0), F), None, NONE),
        r"add_linear: weight has shape \(120, 0\); expected at least one number",
    ),
    "linear_no_in": (
        lambda n: n.add_linear(1, 4, np.ones((0, 24), F), None, NONE),
        r"add_linear: weight has shape \(0, 24\); expected at least one number",
    ),
    "linear_no_bias": (
        lambda n: n.add_linear(1, 4, np.ones((120, 24), F), np.ones(0, F), NONE),
        r"bias has shape \(0,\); expected \(24,\)",
    ),
    "python_nothing": (
        lambda n: n.add_python(doubled, [1], [2], [(120, 0)], [(120,)]),
        r"xs\[0\] is value 1 .*another shape",
    ),
    "concat_none": (lambda n: n.add_concat([], 2, []), "xs has 0 values"),
    "concat_counts": (lambda n: n.add_concat([1, 4], 2, [4]), "xs has 2 values and channels 1"),
    "concat_channels": (lambda n: n.add_concat([1], 2, [7]), r"xs\[0\] is value 1 .* 7 channels"),
    "concat_zero": (lambda n: n.add_concat([1], 2, [0]), "0 channels"),
    "concat_pixels": (
        lambda n: n.add_concat([0, 1], 2, [4, 8]),
        r"xs\[1\] is value 1 .*8 channels",
    ),
    "concat_total": (lambda n: n.add_concat([0, 1], 2, [4, 4]), "y is value 2 .* expected 240"),
    "python_shape": (
        lambda n: n.add_python(doubled, [1], [2], [(119,)], [(120,)]),
        r"xs\[0\] is value 1 with 120 floats an image; expected 119",
    ),
    "python_product": (
        lambda n: n.add_python(doubled, [1], [2], [(120,)], [(2**62, 2**62)]),
        r"ys\[0\] is value 2 .*another shape",
    ),
    "python_negative": (
        lambda n: n.add_python(doubled, [1], [2], [(-10, -12)], [(120,)]),
        r"xs\[0\] is value 1 .*another shape",
    ),
    "python_counts": (lambda n: n.add_python(doubled, [1], [2], [], [(120,)]), "not as many"),
    "python_no_ys": (lambda n: n.add_python(doubled, [1], [], [(120,)], []), "ys is empty"),
    "python_ys": (
        lambda n: n.add_python(doubled, [0], [1, 6], [(120,)], [(120,), (120,)]),
        r"ys\[1\] lies over another value",
    ),
    "python_over_x": (
        lambda n: n.add_python(doubled, [1], [3], [(120,)], [(120,)]),
        r"lies over xs\[0\]",
    ),
}


@pytest.mark.parametrize("key", BAD)
def test_a_step_that_does_not_fit(key):
    call, words = BAD[key]
    net = new()
    with pytest.raises(ValueError, match=f"(?s)^Network.*{words}"):
        call(net)
    net.add_copy(1, 5)  # a step that was refused has left no trace
    x = np.ones((3, 120), F)
    np.testing.assert_array_equal(net.run([x], [(3, 120)])[0], x)


@pytest.mark.parametrize(
    "call",
    [
        lambda n: n.add_conv2d(1, 2, CONV, W.astype(np.float64), B, NONE, "none"),
        lambda n: n.add_conv2d(1, 2, CONV, None, B, NONE, "none"),
        lambda n: n.add_conv2d(1, 2, CONV, [1.0], B, NONE, "none"),
        lambda n: n.add_conv2d(1, 2, CONV, W, B.astype(int), NONE, "none"),
        lambda n: n.add_conv2d(1, 2, None, W, B, NONE, "none"),
        lambda n: n.add_max_pool2d(1, 4, CONV),
        lambda n: n.add_batch_norm(1, 2, B, B, None, B, 1e-5, NONE),
        lambda n: n.add_linear(1, 4, None, None, NONE),
        lambda n: n.add_linear(1, 4, np.ones((120, 24)), None, NONE),
        lambda n: n.add_activation(None, 2, RELU),
        lambda n: n.add_python(3, [1], [2], [(120,)], [(120,)]),
    ],
)
def test_a_step_with_other_types(call):
    with pytest.raises(TypeError):
        call(new())


@pytest.mark.parametrize("weight", [None, [[1.0]], 3], ids=str)
def test_a_weight_that_is_no_array_is_called_by_its_kind(weight):
    words = f"weight is a {type(weight).__name__}; expected a NumPy array of float32"
    with pytest.raises(TypeError, match=f"add_linear: {words}"):
        new().add_linear(1, 4, weight, None, NONE)
    with pytest.raises(TypeError, match=f"add_batch_norm: {words}"):
        new().add_batch_norm(1, 2, weight, B, B, B, 1e-5, NONE)


def test_a_value_that_was_written_over_is_not_read():
    net = new()
    net.add_activation(1, 6, RELU)
    with pytest.raises(ValueError, match=r"x is value 1, .*another value was written over it"):
        net.add_activation(1, 5, RELU)
    net.add_affine(0, 3, 1.0, 0.0)
    with pytest.raises(ValueError, match="x is value 6, "):
        net.add_activation(6, 5, RELU)


def test_no_step_is_added_after_a_run():
    net = new()
    net.add_copy(1, 5)
    net.run([np.ones((1, 120), F)], [(1, 120)])
    for call in (
        lambda: net.add_activation(1, 5, RELU),
        lambda: net.add_conv2d(1, 2, CONV, W, B, NONE, "none"),
    ):
        with pytest.raises(ValueError, match="the network has run"):
            call()


ONE = np.ones((2, 5, 6, 4), F)


@pytest.mark.parametrize(
    ("arrays", "shapes", "error", "words"),
    [
        ([], [(2, 120)], ValueError, "arrays has 0 arrays; expected 1"),
        ([ONE, ONE], [(2, 120)], ValueError, "arrays has 2 arrays"),
        ([ONE.astype(np.float64)], [(2, 120)], TypeError, r"arrays\[0\] is no float32 array"),
        ([None], [(2, 120)], TypeError, r"arrays\[0\] is no float32 array"),
        ([[1.0] * 120], [(1, 120)], TypeError, r"arrays\[0\] is no float32 array"),
        ([ONE[:, :, ::2]], [(2, 120)], ValueError, r"arrays\[0\] is not C-contiguous"),
        ([ONE[0]], [(5, 120)], ValueError, r"arrays\[0\] has shape \(5, 6, 4\).*120 floats"),
        ([np.ones((), F)], [(1, 120)], ValueError, r"arrays\[0\] has shape \(\)"),
        ([np.ones((3, 0), F)], [(3, 120)], ValueError, r"arrays\[0\] has shape \(3, 0\)"),
        ([ONE], [], ValueError, "output_shapes has 0 shapes; expected 1"),
        ([ONE], [(3, 120)], ValueError, r"output_shapes\[0\] is \(3, 120\); .* N = 2"),
        ([ONE], [(2, 119)], ValueError, r"output_shapes\[0\] is \(2, 119\); .* 120 floats"),
        ([ONE], [()], ValueError, r"output_shapes\[0\] is \(\)"),
        ([ONE], [(2, -10, -12)], ValueError, r"output_shapes\[0\]"),
        ([ONE], [(2, 2**62, 2**62)], ValueError, r"output_shapes\[0\]"),
    ],
)
def test_a_run_that_does_not_fit(arrays, shapes, error, words):
    net = new()
    net.add_copy(1, 5)
    with pytest.raises(error, match=f"^Network.run: {words}"):
        net.run(arrays, shapes)


def test_inputs_of_unlike_batches_are_refused():
    net = _pycnn.Network([4, 4, 4], [-1, -1, -1], [0, 1], [2], 1)
    combine(net, 0, 1, 2, size=4)
    with pytest.raises(ValueError, match=r"arrays\[1\] has shape \(3, 4\); expected 2 images of 4"):
        net.run([np.ones((2, 4), F), np.ones((3, 4), F)], [(2, 4)])


def test_an_output_that_no_step_writes_is_refused():
    with pytest.raises(ValueError, match=r"no step writes value 5, an output"):
        new().run([ONE], [(2, 120)])


def test_more_memory_than_there_is():
    net = _pycnn.Network([1, 2**40, 1], [-1, 0, -1], [0], [2], 2**62)
    net.add_copy(0, 2)
    with pytest.raises(MemoryError):
        net.run([np.ones((2**20, 1), F)], [(2**20, 1)])


def test_an_array_may_be_two_inputs(rng):
    x = vector(rng, 40).reshape(10, 4)
    net = _pycnn.Network([4, 4, 4], [-1, -1, -1], [0, 1], [2], 3)
    combine(net, 0, 1, 2, "subtract", 4)
    np.testing.assert_array_equal(net.run([x, x], [(10, 4)])[0], np.zeros((10, 4)))


def test_an_output_may_be_read_and_written_in_place(rng):
    w = he(rng, 4, 4)
    net = _pycnn.Network([4, 4, 4], [-1, -1, -1], [0], [1, 2], 3)
    net.add_linear(0, 1, w, None, NONE)
    net.add_activation(1, 1, RELU)
    net.add_copy(1, 2)
    x = vector(rng, 40).reshape(10, 4)
    first, second = net.run([x], [(10, 4), (10, 2, 2)])
    close([first], [np.maximum(np.float64(x) @ w, 0)])
    np.testing.assert_array_equal(second, first.reshape(10, 2, 2))

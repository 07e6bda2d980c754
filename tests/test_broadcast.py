"""Operands that repeat: every side, every rank, the sums of their gradients, in a compiled step."""

import copy
import itertools

import _pycnn
import gradient_check
import numpy as np
import pytest
import reference
import tolerance
import tolerance_arithmetic
from graph_cases import make, step
from test_network import vector

import pycnn
from pycnn import layers, ops
from pycnn.layers import Module
from pycnn.ops.activations import NONE, RELU

NUMPY = {"add": np.add, "subtract": np.subtract, "multiply": np.multiply, "divide": np.divide}
SHAPES = [
    ((2, 5, 4, 19), (2, 1, 1, 19)),
    ((2, 5, 4, 19), (19,)),
    ((2, 5, 4, 19), (2, 5, 4, 1)),
    ((2, 1, 1, 35), (2, 5, 4, 1)),
    ((3, 1, 4, 18), (3, 5, 1, 18)),
    ((2, 5, 4, 3), ()),
    ((3, 9, 11, 3), (3,)),  # short rows, 16 at a time, and a rest
    ((2, 7, 9, 15), (2, 1, 1, 15)),
    ((2, 3, 1, 5, 1, 16), (1, 3, 4, 1, 2, 16)),
    ((0, 4), (4,)),
    ((1,), (1, 1)),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shapes", SHAPES, ids=str)
def test_the_bits_are_numpys(isa, rng, shapes, dtype):
    for a, b in itertools.permutations(rng.standard_normal(s).astype(dtype) for s in shapes):
        for name, function in NUMPY.items():
            np.testing.assert_array_equal(getattr(ops, name)(a, b), function(a, b))
        np.testing.assert_array_equal(ops.add(a, b, activation="relu"), ops.relu(a + b))


@pytest.mark.parametrize("name", NUMPY)
def test_threads_change_no_bit(name, rng):
    """Ranges that begin inside a row, a block of rows and an image."""
    x = rng.standard_normal((3, 131, 127, 33), np.float32)
    for shape in ((3, 1, 1, 33), (3, 131, 127, 1), (131, 1, 33)):
        other = rng.standard_normal(shape, np.float32) + np.float32(3)
        for threads in (1, 2, 3):
            with pycnn.num_threads(threads):
                np.testing.assert_array_equal(getattr(ops, name)(x, other), NUMPY[name](x, other))


@pytest.mark.parametrize("shape", [(3, 1, 1, 33), (33,), (3, 131, 127, 1), (1,)], ids=str)
def test_sums_have_the_same_bits_on_threads(shape, rng):
    x, other = rng.standard_normal((2, 3, 131, 127, 33), np.float32)
    results = []
    for threads in (1, 2, 3):
        with pycnn.num_threads(threads):
            results.append(ops.sum_to(x, shape, other=other))
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])
    exact = (x.astype(np.float64) * other).sum(
        axis=tuple(i for i in range(4) if ((1,) * (4 - len(shape)) + shape)[i] == 1), keepdims=True
    )
    np.testing.assert_allclose(results[0], exact.reshape(shape), atol=2e-3, rtol=1e-4)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("op", NUMPY)
def test_terms_are_combined_on_the_way(isa, op, rng, dtype):
    for x, shape, other in (
        ((2, 67, 40, 35), (2, 1, 1, 35), (2, 67, 1, 35)),  # in slots
        ((3, 5, 4, 90), (3, 5, 4, 1), (3, 1, 1, 90)),
        ((2, 40000), (2, 1), (1,)),
        ((3, 5, 4, 19), (1, 5, 4, 1), (3, 5, 4, 19)),
        ((3, 2, 9, 700), (3, 1, 9, 700), (700,)),  # rows longer than what is made at once
    ):
        x, other = rng.standard_normal(x).astype(dtype), (1 + rng.random(other)).astype(dtype)
        result = ops.sum_to(x, shape, op=op, other=other, scale=-2.0)
        exact = reference.sum_to(x, shape, op, other, -2.0)
        bound = tolerance_arithmetic.sum_to(x, shape, op, other, -2.0)
        tolerance.assert_within(result, exact, bound, f"{op} {shape}")


def test_a_batch_does_not_change_the_sums_of_an_image(rng):
    x = rng.standard_normal((5, 67, 59, 19), np.float32)
    for shape in ((1, 1, 19), (67, 59, 1), (1, 1, 1)):
        together = ops.sum_to(x, (5, *shape))
        np.testing.assert_array_equal(together[3:4], ops.sum_to(x[3:4], (1, *shape)))


def test_every_choice_of_axes(rng):
    x = np.round(9 * rng.standard_normal((3, 2, 5, 4), np.float32))  # sums of integers are exact
    for mask in itertools.product((False, True), repeat=4):
        shape = tuple(1 if summed else n for summed, n in zip(mask, x.shape, strict=True))
        axes = tuple(i for i, summed in enumerate(mask) if summed)
        np.testing.assert_array_equal(ops.sum_to(x, shape), x.sum(axis=axes, keepdims=True))


SPECIAL = np.float32([0.0, -0.0, np.inf, -np.inf, np.nan, -2.5, 1e-42, 3e38, 0.3])


@pytest.mark.parametrize("exponent", [2.0, 3.0, -1.0, 4.0, 5.0, -3.0, -0.75, 0.5, 1.0, 0.0, 1e9])
def test_powers_of_special_numbers_are_cs(isa, exponent):
    """But that of -inf, and roots: NaN, or the sign of zero."""
    x = SPECIAL if exponent == int(exponent) else np.delete(SPECIAL, [1, 3])
    with np.errstate(all="ignore"):
        exact = np.power(x.astype(np.float64), exponent)
        expected = exact.astype(np.float32)
    result = ops.power(x, exponent)
    np.testing.assert_allclose(result, expected, rtol=2e-7)
    signs = [np.signbit(y[~np.isnan(expected)]) for y in (result, expected)]
    np.testing.assert_array_equal(*signs)


def test_general_powers_are_rounded_once(isa, rng):
    """So they are the same on every machine."""
    x = np.exp(20 * rng.standard_normal(5000)).astype(np.float32)
    with np.errstate(over="ignore", under="ignore"):
        exact = np.power(x.astype(np.float64), -1.37).astype(np.float32)
    np.testing.assert_array_equal(ops.power(x, -1.37), exact)


# ---- layers ----------------------------------------------------------------------------------


class Scaled(Module):
    """Parameters of its own beside values."""

    def __init__(self):
        super().__init__()
        self.scale = layers.Parameter(np.float32([0.5, -2.0, 1.5]), "scale")
        self.shift = layers.Parameter(np.float32([[1.0], [0.3]]), "shift")

    def forward(self, x):
        return self.scale * x + x / self.scale - self.shift + (self.shift - x * x) * 0.5


def test_parameters_are_operands_and_are_trained(rng):
    x = rng.standard_normal((4, 2, 3)).astype(np.float32)
    model = Scaled()
    s, t = model.scale.data, model.shift.data
    np.testing.assert_allclose(
        model(x), s * x + x / s - t + (t - x * x) * 0.5, rtol=1e-5, atol=1e-5
    )
    assert [p.name for p in model.parameters()] == ["scale", "shift"]
    gradient_check.check(Scaled().astype(np.float64), x.astype(np.float64), rng)
    compiled = model.eval().compile_inference((None, 2, 3))
    np.testing.assert_array_equal(compiled(x), model(x))
    model.scale.data *= 2
    changed = s * x + x / s - t + (t - x * x) * 0.5  # s is the model's own array
    np.testing.assert_allclose(model(x), changed, rtol=1e-5, atol=1e-5)


def test_a_parameter_of_another_model_is_refused():
    class Foreign(Module):
        def __init__(self, parameter):
            super().__init__()
            self.held = [parameter]

        def forward(self, x):
            return x * self.held[0]

    with pytest.raises(ValueError, match=r"^Foreign: Combine.* no attribute of the model"):
        Foreign(layers.Parameter(np.ones(3, np.float32)))(np.ones((2, 3), np.float32))


@pytest.mark.parametrize("op", NUMPY)
@pytest.mark.parametrize("reflected", [False, True])
@pytest.mark.parametrize("shape", [(3,), (2, 1, 3), (1, 1, 1, 3), (4, 1)], ids=str)
def test_combine_and_its_gradients(op, reflected, shape, rng):
    layer = layers.Combine(op, shape, reflected).astype(np.float64)
    layer.weight.data[...] = 1 + rng.random(shape)
    x = 1 + rng.random((2, 2, 4, 3))
    a, b = (layer.weight.data, x) if reflected else (x, layer.weight.data)
    np.testing.assert_array_equal(layer(x), NUMPY[op](a, b))
    gradient_check.check(copy.deepcopy(layer), x, rng)


@pytest.mark.parametrize(
    ("axes", "keepdims"), [((1, 2), False), (-1, True), ((1, -1), True), (2, False)]
)
def test_mean_is_numpys(axes, keepdims, rng):
    x = rng.standard_normal((3, 4, 5, 2))
    layer = layers.Mean(axes, keepdims)
    expected = x.mean(axis=tuple(np.atleast_1d(axes)), keepdims=keepdims)
    np.testing.assert_allclose(layer(x), expected, rtol=1e-14, atol=1e-14)
    gradient_check.check(layer, x, rng)
    compiled = layers.Sequential(layer).eval().compile_inference((None, 4, 5, 2))
    np.testing.assert_array_equal(compiled(np.float32(x)), layer.eval()(np.float32(x)))


def test_mean_over_space_is_the_global_average_pool(rng):
    x = rng.standard_normal((2, 7, 9, 33), np.float32)
    np.testing.assert_allclose(
        layers.Mean((1, 2))(x), layers.GlobalAvgPool2d()(x), rtol=2e-5, atol=1e-6
    )


def test_a_linear_layer_takes_rows_of_any_rank(rng):
    layer = layers.Linear(5, 3, rng=1).astype(np.float64)
    layer.bias.data[...] = (1, 2, 3)
    x = rng.standard_normal((2, 3, 4, 5))
    np.testing.assert_allclose(
        layer(x), x @ layer.weight.data + layer.bias.data, rtol=1e-12, atol=1e-14
    )
    gradient_check.check(layer, x, rng)
    assert layer.flop_per_image((None, 3, 4, 5)) == 12 * 2 * 15
    for shape in ((3, 4, 5), (1, 5), (7, 5)):
        plain = layers.Sequential(layers.Linear(5, 20, rng=1), layers.ReLU()).eval()
        compiled = plain.compile_inference((None, *shape))
        x = rng.standard_normal((6, *shape), np.float32)
        np.testing.assert_array_equal(compiled(x), plain(x))


@pytest.mark.parametrize("groups", [1, 2])
def test_scale_and_shift_go_into_the_weights_around_them(groups, rng):
    def net(*parts):
        model = layers.Sequential(*parts)
        for parameter in model.parameters():
            parameter.data[...] = rng.standard_normal(parameter.data.shape)
        return model.eval()

    conv = layers.Conv2d(4, 6, (2, 3), groups=groups, rng=1)
    x = rng.standard_normal((3, 5, 6, 4), np.float32)
    model = net(layers.ChannelAffine(4), conv, layers.ChannelAffine(6))
    steps = _steps(model, x)
    assert steps == ["Conv2d"]
    np.testing.assert_allclose(model.compile_inference((None, 5, 6, 4))(x), model(x), atol=2e-5)
    padded = net(layers.ChannelAffine(4), layers.Conv2d(4, 6, 3, padding=1, rng=1))
    assert _steps(padded, x) == ["ChannelAffine", "Conv2d"], "the rim is zeros behind the shift"
    padded[0].bias.data[...] = 0
    assert _steps(padded, x) == ["Conv2d"]
    np.testing.assert_allclose(padded.compile_inference((None, 5, 6, 4))(x), padded(x), atol=2e-5)
    dense = net(layers.ChannelAffine(4), layers.Linear(4, 7), layers.BatchNorm1d(7), layers.ReLU())
    dense[2].running_mean[...] = rng.standard_normal(7)
    dense[2].running_var[...] = 1 + rng.random(7)
    assert _steps(dense, x[0, 0]) == ["LinearActivation"]
    rows = x[0, 0]
    np.testing.assert_allclose(dense.compile_inference((None, 4))(rows), dense(rows), atol=2e-5)


def _steps(model, x):
    plan = pycnn.graph.plan.Plan(model.program(x.shape), np.float32, "compiled")
    return [type(step.operation).__name__ for step in plan.steps]


def test_patterns_leave_additions_alone_whose_operand_repeats(rng):
    class Net(Module):
        def __init__(self):
            super().__init__()
            self.conv, self.mean = layers.Conv2d(3, 3, 1, rng=1), layers.Mean((1, 2), keepdims=True)

        def forward(self, x):
            return layers.relu(self.conv(x) + self.mean(x))

    x = rng.standard_normal((2, 5, 4, 3), np.float32)
    model = Net()
    y, twin = model(x), copy.deepcopy(model).fuse(False)
    np.testing.assert_array_equal(y, twin(x))
    for mode in (model.eval(), twin.eval()):
        np.testing.assert_allclose(mode.compile_inference((None, 5, 4, 3))(x), y, atol=1e-6)


def test_gates_compile_to_steps_of_cpp_alone():
    model, (x,), _ = make("gates")
    net = _Recorded()
    from pycnn.graph.compile import Lowering
    from pycnn.graph.plan import Plan

    plan = Plan(model.eval().program(x.shape), np.float32, "compiled")
    number = {id(v): 0 for s in plan.steps for v in (*s.inputs, *s.outputs)}
    for one in plan.steps:
        one.operation.lower(Lowering(net, one, number))
    assert "add_python" not in net.called
    assert {"add_combine", "add_sum_to", "add_linear"} <= net.called


class _Recorded:
    """Notes which steps a layer asks for."""

    def __init__(self):
        self.called = set()

    def __getattr__(self, name):
        return lambda *_: self.called.add(name)


def test_gates_train_on_any_threads():
    model, xs, dys = make("gates")
    results = []
    for threads in (1, 2):
        with pycnn.num_threads(threads):
            results.append(step(copy.deepcopy(model), xs, dys))
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)


# ---- sentences ----------------------------------------------------------------------------------

X = np.ones((2, 5, 4, 3), np.float32)


def _refused(body, error, words, x=X):
    class Bad(Module):
        def __init__(self):
            super().__init__()
            self.parts = {"mean": layers.Mean((1, 2))}

        def forward(self, x):
            return body(self, x)

    with pytest.raises(error, match=words):
        Bad()(x)


@pytest.mark.parametrize(
    ("body", "error", "words"),
    [
        (
            lambda m, x: x * m.parts["mean"](x),
            ValueError,
            r"^Multiply: the inputs have shapes \(2, 5, 4, 3\) and \(2, 3\); .*\[N, 1, 1, C\]",
        ),
        (
            lambda m, x: layers.concat([x, x]) / x,
            ValueError,
            r"^Divide: .*, C = 6 and 3; expected the same, or 1 where one repeats",
        ),
        (lambda m, x: x / 0, ZeroDivisionError, "a Value / 0"),
        (lambda m, x: x / "2", TypeError, r"^Divide: argument 1 is a str beside a Value"),
    ],
)
def test_values_that_do_not_fit(body, error, words):
    _refused(body, error, words)


@pytest.mark.parametrize(
    ("make_layer", "words"),
    [
        (lambda: layers.Combine("plus", (3,)), r"^Combine: op is 'plus'; expected \"add\""),
        (lambda: layers.Combine("add", 3), r"^Combine: shape is 3; expected a tuple"),
        (lambda: layers.Combine("add", (0,)), r"^Combine: shape is \(0,\)"),
        (lambda: layers.Combine("add", (4,))(X), r"x has shape \(2, 5, 4, 3\) and the weight \(4,"),
        (lambda: layers.Combine("add", (2, 5, 4, 3))(X), r"expected the last axes of x without N"),
        (lambda: layers.Mean((0, 1)), r"^Mean: axes is \(0, 1\); expected .* none of them 0"),
        (lambda: layers.Mean(4)(X), r"^Mean: x has shape \(2, 5, 4, 3\); expected axes \(4,\)"),
        (lambda: layers.Mean((1, -3))(X), r"expected axes \(1, -3\) of it, each once"),
        (lambda: layers.Mean(1)(X[:, :0]), r"at least one number to average"),
        (lambda: layers.Power(np.nan), r"^Power: exponent is nan; expected a finite"),
        (lambda: layers.ChannelAffine(4)(X), r"^ChannelAffine: x has shape .* channels = 4"),
        (lambda: layers.BatchNorm1d(4)(X), r"^BatchNorm1d: .*\[N, C\] or \[N, L, C\]: images"),
        (lambda: layers.BatchNorm1d(5)(X[0]), r"num_features = 5: for \[N, C, L\] write|= 5\."),
        (
            lambda: layers.Linear(60, 2)(X),
            r"3 features in \[N, \.\.\., in.* put Flatten\(\) before",
        ),
        (lambda: layers.Linear(4, 2)(X), r"^Linear: x has shape .* expected in_features = 4\.$"),
    ],
)
def test_layers_refuse_in_a_sentence(make_layer, words):
    with pytest.raises(ValueError, match=words):
        make_layer()


def test_a_network_refuses_operands_that_do_not_fit(rng):
    net = _pycnn.Network([12, 4, 12], [-1, 0, -1], [0], [2], 2)
    net.add_sum_to(0, 1, (3, 4), (1, 4), 0.5)
    three = vector(rng, 3)
    for arguments, words in (
        ((0, 1, 2, "plus", (3, 4), (1, 4), (3, 4), NONE), 'op is "plus"'),
        (
            (0, 1, 2, "add", (3, 4), (4, 1), (3, 4), NONE),
            r"b has shape \(4, 1\); expected \(3, 4\)",
        ),
        ((0, 1, 2, "add", (3, 4), (4,), (3, 4), NONE), "expected as many axes of a value"),
        ((0, three, 2, "add", (3, 4), (4,), (3, 4), NONE), r"b has shape \(3,\); expected \(4,\)"),
        ((three, three, 2, "add", (3,), (3,), (4, 3), NONE), "a and b are both numbers"),
        ((0, 1, 1, "add", (3, 4), (1, 4), (3, 4), NONE), "y is value 1 with 4 floats"),
    ):
        with pytest.raises(ValueError, match=words):
            net.add_combine(*arguments)
    with pytest.raises(ValueError, match=r"y has shape \(4, 1\), but x has shape \(3, 4\)"):
        net.add_sum_to(0, 2, (3, 4), (4, 1), 1.0)
    net.add_combine(0, 1, 2, "multiply", (3, 4), (1, 4), (3, 4), RELU)
    x = vector(rng, 60).reshape(5, 3, 4)
    expected = np.maximum(x * ops.sum_to(x, (5, 1, 4), scale=0.5), 0)
    np.testing.assert_array_equal(net.run([x], [(5, 3, 4)])[0], expected)

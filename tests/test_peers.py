"""Parity with PyTorch and TensorFlow, where they are installed: `pip install torch tensorflow`.

Both sides compute in float32, so each lies within the derived bound of the exact result, and they
lie within twice the bound of each other. What must be exact (maxima, indices, zeros) is compared
exactly.
"""

import warnings

import numpy as np
import pytest
import reference
import tolerance

from pycnn import layers, ops, optim

# F(4x4) has thirds: integers agree to the last bit with F(2x2) and direct convolution only.
pytestmark = pytest.mark.usefixtures("exact_precision")


def optional(name):
    """The module, or a skip; the warnings of its own import are not ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(name, reason=f"compares with {name}, which is not installed")


@pytest.fixture(scope="module")
def torch():
    return optional("torch")


@pytest.fixture(scope="module")
def tf():
    return optional("tensorflow")


def nchw(array):
    return np.ascontiguousarray(array.transpose(0, 3, 1, 2))


def oihw(weight):
    return np.ascontiguousarray(weight.transpose(3, 2, 0, 1))


CONVS = {
    "lecture": ((2, 14, 14, 32), (3, 3, 32, 64), {"padding": 1}),
    "stride": ((2, 9, 8, 3), (5, 3, 3, 8), {"stride": (2, 3), "padding": (2, 0)}),
    "dilation": ((1, 9, 9, 4), (3, 3, 4, 6), {"dilation": 2, "padding": 2}),
    "groups": ((2, 7, 6, 6), (3, 2, 2, 9), {"groups": 3}),
    "depthwise": ((1, 7, 7, 17), (3, 3, 1, 17), {"groups": 17, "padding": 1}),
}


@pytest.mark.parametrize("case", CONVS)
def test_conv2d_is_torchs(torch, isa, rng, case):
    x_shape, weight_shape, options = CONVS[case]
    x, weight = (rng.standard_normal(shape, np.float32) for shape in (x_shape, weight_shape))
    bias = rng.standard_normal(weight_shape[3], np.float32)
    theirs = [torch.tensor(a, requires_grad=True) for a in (nchw(x), oihw(weight), bias)]
    y = torch.nn.functional.conv2d(*theirs, **options)
    ours = ops.conv2d(x, weight, bias, **options)
    bound = 2 * tolerance.conv2d(x, weight, bias, **options)
    tolerance.assert_within(ours, y.detach().numpy().transpose(0, 2, 3, 1), bound)

    dy = rng.standard_normal(ours.shape, np.float32)
    y.backward(torch.tensor(nchw(dy)))
    dx, dweight, dbias = (array.grad.numpy() for array in theirs)
    tolerance.assert_within(
        ops.conv2d_backward_input(dy, weight, x.shape, **options),
        dx.transpose(0, 2, 3, 1),
        2 * tolerance.conv2d_backward_input(dy, weight, x.shape, **options),
    )
    tolerance.assert_within(
        ops.conv2d_backward_weight(x, dy, weight.shape, **options),
        dweight.transpose(2, 3, 1, 0),
        2 * tolerance.conv2d_backward_weight(x, dy, weight.shape, **options),
    )
    tolerance.assert_within(
        ops.conv2d_backward_bias(dy), dbias, 2 * tolerance.conv2d_backward_bias(dy)
    )


@pytest.mark.parametrize(
    ("kernel_size", "stride", "padding"),
    [(2, 2, 0), (3, 2, 1), ((3, 2), (1, 2), (1, 0)), (3, 1, 1)],
)
def test_pools_are_torchs(torch, isa, rng, kernel_size, stride, padding):
    x = np.round(2 * rng.standard_normal((2, 7, 8, 17), np.float32))
    options = {"stride": stride, "padding": padding}
    theirs = torch.tensor(nchw(x), requires_grad=True)
    y, indices = torch.nn.functional.max_pool2d(theirs, kernel_size, return_indices=True, **options)
    ours, our_indices = ops.max_pool2d(x, kernel_size, return_indices=True, **options)
    np.testing.assert_array_equal(nchw(ours), y.detach().numpy())
    np.testing.assert_array_equal(nchw(our_indices), indices.numpy())
    dy = np.float32(rng.integers(-9, 10, ours.shape))
    y.backward(torch.tensor(nchw(dy)))
    dx = ops.max_pool2d_backward(dy, our_indices, x.shape)
    np.testing.assert_array_equal(nchw(dx), theirs.grad.numpy())

    for include in (False, True):
        options["count_include_pad"] = include
        theirs = torch.tensor(nchw(x), requires_grad=True)
        y = torch.nn.functional.avg_pool2d(theirs, kernel_size, **options)
        bound = 2 * tolerance.avg_pool2d(x, kernel_size, **options)
        exact = y.detach().numpy().transpose(0, 2, 3, 1)
        tolerance.assert_within(ops.avg_pool2d(x, kernel_size, **options), exact, bound)
        y.backward(torch.tensor(nchw(dy)))
        bound = 2 * tolerance.avg_pool2d_backward(dy, x.shape, kernel_size, **options)
        dx = ops.avg_pool2d_backward(dy, x.shape, kernel_size, **options)
        tolerance.assert_within(dx, theirs.grad.numpy().transpose(0, 2, 3, 1), bound)


def test_nan_wins_in_torch_too(torch, rng):
    """Torch lets the last NaN's index win; the values agree."""
    x = rng.standard_normal((1, 6, 6, 5), np.float32)
    x[0, ::3, ::2] = np.nan
    theirs = torch.nn.functional.max_pool2d(torch.tensor(nchw(x)), 2)
    np.testing.assert_array_equal(nchw(ops.max_pool2d(x, 2)), theirs.numpy())


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("one_hot", [False, True], ids=["classes", "one_hot"])
def test_cross_entropy_is_torchs(torch, isa, rng, smoothing, one_hot):
    logits, labels = 3 * rng.standard_normal((9, 10), np.float32), rng.integers(0, 10, 9)
    target = np.eye(10, dtype=np.float32)[labels] if one_hot else labels
    theirs = torch.tensor(logits, requires_grad=True)
    loss = torch.nn.functional.cross_entropy(
        theirs, torch.tensor(target), label_smoothing=smoothing
    )
    loss.backward()
    bounds = tolerance.softmax_cross_entropy(logits, labels, smoothing)
    ours = ops.softmax_cross_entropy(logits, target, label_smoothing=smoothing)
    for result, value, bound in zip(ours, (loss.item(), theirs.grad.numpy()), bounds, strict=True):
        tolerance.assert_within(result, value, 2 * bound)


@pytest.mark.parametrize("shape", [(9, 10), (2, 3, 4, 10), (9, 40)], ids=["rows", "maps", "wide"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("kind", ["labels", "soft"])
def test_weighted_cross_entropy_is_torchs(torch, isa, rng, kind, smoothing, shape):
    """Class weights, ignored labels, distributions: what the sum is divided by is torch's."""
    logits = 3 * rng.standard_normal(shape, np.float32)
    options = {"label_smoothing": smoothing, "class_weights": rng.random(shape[-1], np.float32)}
    target = rng.random(shape, np.float32)
    theirs = {}
    if kind == "labels":
        target = rng.integers(0, shape[-1], shape[:-1])
        options["ignore_index"] = theirs["ignore_index"] = int(target.flat[0])
    x = torch.tensor(logits, requires_grad=True)
    loss = torch.nn.functional.cross_entropy(
        x.movedim(-1, 1),
        torch.tensor(target).movedim(-1, 1) if kind == "soft" else torch.tensor(target),
        weight=torch.tensor(options["class_weights"]),
        label_smoothing=smoothing,
        **theirs,
    )
    loss.backward()
    bounds = tolerance.softmax_cross_entropy(logits, target, **options)
    ours = ops.softmax_cross_entropy(logits, target, **options)
    for result, value, bound in zip(ours, (loss.item(), x.grad.numpy()), bounds, strict=True):
        tolerance.assert_within(result, value, 2 * bound)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("mse_loss", {}),
        ("l1_loss", {}),
        ("huber_loss", {"delta": 0.7}),
        ("binary_cross_entropy_with_logits", {}),
        ("binary_cross_entropy_with_logits", {"pos_weight": np.arange(11, dtype=np.float32)}),
    ],
)
def test_losses_are_torchs(torch, isa, rng, name, options):
    """Torch's cross entropy subtracts nearly equal numbers, and errs by the size of the logits."""
    outputs, targets = 3 * rng.standard_normal((7, 11), np.float32), rng.random((7, 11), np.float32)
    theirs = {n: torch.tensor(v) if isinstance(v, np.ndarray) else v for n, v in options.items()}
    x = torch.tensor(outputs, requires_grad=True)
    loss = getattr(torch.nn.functional, name)(x, torch.tensor(targets), **theirs)
    loss.backward()
    bounds = getattr(tolerance, name)(outputs, targets, **options)
    slack = tolerance.gamma(8) * np.abs(outputs).max() * max(options.get("pos_weight", [1]))
    slack = slack if name.startswith("binary") else 0.0
    ours = getattr(ops, name)(outputs, targets, **options)
    for result, value, bound in zip(ours, (loss.item(), x.grad.numpy()), bounds, strict=True):
        tolerance.assert_within(result, value, 2 * bound + slack)


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_adam_is_torchs_adamw(torch, isa, rng, weight_decay):
    """Five steps; their errors add up, each by the bound of its own step."""
    param, m, v = rng.standard_normal(53, np.float32), *np.zeros((2, 53), np.float32)
    theirs = torch.tensor(param, requires_grad=True)
    optimizer = torch.optim.AdamW([theirs], lr=0.01, weight_decay=weight_decay)
    bound = 0.0
    for step in range(1, 6):
        grad = rng.standard_normal(53, np.float32)
        options = {"step": step, "lr": 0.01, "weight_decay": weight_decay}
        bound = bound + 2 * step * tolerance.adam_step(param, grad, m, v, **options)[0]
        theirs.grad = torch.tensor(grad)
        optimizer.step()
        ops.adam_step(param, grad, m, v, **options)
        tolerance.assert_within(param, theirs.detach().numpy(), bound, f"step {step}")


@pytest.mark.parametrize("options", [{}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}])
def test_sgd_is_torchs(torch, isa, rng, options):
    param, velocity = rng.standard_normal(53, np.float32), np.zeros(53, np.float32)
    theirs = torch.tensor(param, requires_grad=True)
    optimizer = torch.optim.SGD([theirs], lr=0.1, weight_decay=0.01, **options)
    bound = 0.0
    for step in range(1, 6):
        grad = rng.standard_normal(53, np.float32)
        used = {"lr": 0.1, "weight_decay": 0.01, **options}
        bound = bound + 2 * step * tolerance.sgd_step(param, grad, velocity, **used)[0]
        theirs.grad = torch.tensor(grad)
        optimizer.step()
        ops.sgd_step(param, grad, velocity, **used)
        tolerance.assert_within(param, theirs.detach().numpy(), bound, f"step {step}")


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_rmsprop_is_torchs(torch, isa, rng, momentum):
    param, square, buffer = rng.standard_normal(53, np.float32), *np.zeros((2, 53), np.float32)
    theirs = torch.tensor(param, requires_grad=True)
    optimizer = torch.optim.RMSprop([theirs], lr=0.01, weight_decay=0.01, momentum=momentum)
    bound = 0.0
    for step in range(1, 6):
        grad = rng.standard_normal(53, np.float32)
        options = {"lr": 0.01, "weight_decay": 0.01, "momentum": momentum}
        bound = bound + 2 * step * tolerance.rmsprop_step(param, grad, square, buffer, **options)[0]
        theirs.grad = torch.tensor(grad)
        optimizer.step()
        ops.rmsprop_step(param, grad, square, buffer, **options)
        tolerance.assert_within(param, theirs.detach().numpy(), bound, f"step {step}")


@pytest.mark.parametrize("max_norm", [0.5, 100.0])
def test_clipping_is_torchs(torch, rng, max_norm):
    gradients = [rng.standard_normal(shape, np.float32) for shape in ((7, 5), (5,), (300,))]
    ours = [layers.Parameter(np.zeros_like(g)) for g in gradients]
    theirs = [torch.zeros(g.shape, requires_grad=True) for g in gradients]
    for parameter, tensor, g in zip(ours, theirs, gradients, strict=True):
        parameter.grad, tensor.grad = g, torch.tensor(g)
    norm = torch.nn.utils.clip_grad_norm_(theirs, max_norm)
    np.testing.assert_allclose(optim.clip_grad_norm(ours, max_norm), norm.item(), rtol=1e-6)
    for parameter, tensor in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(parameter.grad, tensor.grad.numpy(), rtol=1e-6)


@pytest.mark.parametrize("shape", [(4, 5, 3, 7), (9, 6, 6, 32), (2, 1, 1, 8)], ids=str)
def test_batch_norm_is_torchs(torch, isa, rng, shape):
    """Two training steps, the running statistics, and eval mode; then the global pool."""
    C = shape[-1]
    ours, theirs = layers.BatchNorm2d(C, 0.2, 1e-4), torch.nn.BatchNorm2d(C, 1e-4, 0.2)
    for parameter, tensor in zip(ours.parameters(), (theirs.weight, theirs.bias), strict=True):
        parameter.data[...] = rng.standard_normal(C)
        tensor.data = torch.tensor(parameter.data)
    for _ in range(2):
        x, dy = (2 * rng.standard_normal(shape, np.float32) + 1 for _ in range(2))
        their_x = torch.tensor(nchw(x), requires_grad=True)
        theirs.zero_grad()
        their_y = theirs(their_x)
        their_y.backward(torch.tensor(nchw(dy)))
        ours.zero_grad()
        y = ours.forward(x)
        dx = ours.backward(dy)
        vectors = [parameter.data for parameter in ours.parameters()]
        bound = tolerance.batch_norm(x, *vectors, eps=1e-4)[0]
        tolerance.assert_within(y, their_y.detach().numpy().transpose(0, 2, 3, 1), 2 * bound)
        expected = [their_x.grad.numpy().transpose(0, 2, 3, 1)]
        expected += [theirs.weight.grad.numpy(), theirs.bias.grad.numpy()]
        _, mean, var = reference.batch_norm(x, *vectors, eps=1e-4)
        bounds = tolerance.batch_norm_backward(dy, x, *vectors, mean, var, eps=1e-4)
        z_bound = tolerance.batch_norm(x, np.ones(C), np.zeros(C), eps=1e-4)[0]
        slack = np.abs(dy).sum(axis=(0, 1, 2)) * z_bound.max(axis=(0, 1, 2))  # of z: mean and var
        scale = np.abs(vectors[0]) / np.sqrt(var + 1e-4)
        for result, value, bound, more in zip(
            (dx, *(parameter.grad for parameter in ours.parameters())),
            expected, bounds, (scale * slack, slack, 0 * slack), strict=True,
        ):  # fmt: skip
            tolerance.assert_within(result, value, 2 * (bound + more))
    for name in ("running_mean", "running_var"):
        np.testing.assert_allclose(
            getattr(ours, name), getattr(theirs, name).numpy(), rtol=1e-5, atol=1e-6
        )
    with torch.no_grad():
        their_y = theirs.eval()(torch.tensor(nchw(x))).numpy().transpose(0, 2, 3, 1)
    np.testing.assert_allclose(ours.eval().forward(x), their_y, rtol=1e-5, atol=1e-5)
    pooled = torch.nn.functional.adaptive_avg_pool2d(torch.tensor(nchw(x)), 1).numpy()[:, :, 0, 0]
    np.testing.assert_allclose(layers.GlobalAvgPool2d().forward(x), pooled, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size", [(1, 1), (7, 8), (28, 13)], ids=str)
@pytest.mark.parametrize("kernel", [(1, 1), (2, 3), (3, 3), (5, 4)], ids=str)
@pytest.mark.parametrize("stride", [(1, 1), (2, 2), (3, 1), (4, 3)], ids=str)
def test_same_is_tensorflows(tf, rng, size, kernel, stride):
    """Integers, so exactly; where the odd pixel goes decides the numbers, not only the shape."""
    x = np.float32(rng.integers(-4, 5, (2, *size, 3)))
    weight = np.float32(rng.integers(-4, 5, (*kernel, 3, 5)))
    ours = ops.conv2d(x, weight, stride=[1, *stride, 1], padding="SAME")
    theirs = tf.nn.conv2d(x, weight, [1, *stride, 1], "SAME").numpy()
    np.testing.assert_array_equal(ours, theirs)
    ours = ops.max_pool2d(x, kernel, stride=stride, padding="SAME")
    np.testing.assert_array_equal(ours, tf.nn.max_pool2d(x, kernel, stride, "SAME").numpy())
    ours = ops.avg_pool2d(x, kernel, stride=stride, padding="SAME")
    bound = 2 * tolerance.avg_pool2d(x, kernel, stride=stride, padding="same")
    tolerance.assert_within(ours, tf.nn.avg_pool2d(x, kernel, stride, "SAME").numpy(), bound)


@pytest.mark.parametrize("dilation", [2, 3])
def test_dilated_same_is_tensorflows(tf, rng, dilation):
    x = np.float32(rng.integers(-4, 5, (2, 9, 7, 3)))
    weight = np.float32(rng.integers(-4, 5, (3, 2, 3, 5)))
    ours = ops.conv2d(x, weight, dilation=dilation, padding="same")
    theirs = tf.nn.conv2d(x, weight, 1, "SAME", dilations=dilation).numpy()
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("case", ["lecture", "stride"])
def test_gradients_are_tensorflows(tf, isa, rng, case):
    x_shape, weight_shape, _ = CONVS[case]
    stride = 2 if case == "stride" else 1
    x, weight = (np.float32(rng.integers(-3, 4, shape)) for shape in (x_shape, weight_shape))
    options = {"stride": stride, "padding": "same"}
    dy = np.float32(rng.integers(-3, 4, ops.conv2d(x, weight, **options).shape))
    variables = tf.constant(x), tf.constant(weight)
    with tf.GradientTape() as tape:
        tape.watch(variables)
        loss = tf.reduce_sum(tf.nn.conv2d(*variables, stride, "SAME") * dy)
    dx, dweight = (gradient.numpy() for gradient in tape.gradient(loss, variables))
    np.testing.assert_array_equal(ops.conv2d_backward_input(dy, weight, x.shape, **options), dx)
    np.testing.assert_array_equal(
        ops.conv2d_backward_weight(x, dy, weight.shape, **options), dweight
    )


def test_the_reference_itself_is_torchs_in_float64(torch, rng):
    """The loops that everything else is compared with."""
    x, weight = rng.standard_normal((2, 7, 6, 4)), rng.standard_normal((3, 2, 2, 6))
    options = {"stride": (2, 1), "padding": (1, 0), "groups": 2, "dilation": (1, 2)}
    y = torch.nn.functional.conv2d(torch.tensor(nchw(x)), torch.tensor(oihw(weight)), **options)
    bound = tolerance.conv2d(x, weight, **options)
    exact = reference.conv2d(x, weight, **options)
    tolerance.assert_within(y.numpy().transpose(0, 2, 3, 1), exact, bound)

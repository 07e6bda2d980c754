"""Optimizers: their formulas over several steps, states that go round, and sentences."""

import copy
import pickle
import re

import numpy as np
import pytest
import reference

from pycnn import layers, losses, models, ops, optim
from pycnn.ops import optim as _ops_optim

OPTIMIZERS = {
    "adam": lambda p: optim.Adam(p, lr=0.01, betas=(0.8, 0.95), eps=1e-6),
    "adamw": lambda p: optim.AdamW(p, lr=0.01, weight_decay=0.1),
    "sgd": lambda p: optim.SGD(p, 0.1),
    "sgd_decay": lambda p: optim.SGD(p, 0.1, weight_decay=0.2),
    "momentum": lambda p: optim.SGD(p, 0.1, momentum=0.9),
    "nesterov": lambda p: optim.SGD(p, 0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
    "rmsprop": lambda p: optim.RMSprop(p, 0.01, eps=1e-6),
    "rmsprop_momentum": lambda p: optim.RMSprop(
        p, 0.01, alpha=0.9, eps=1e-3, momentum=0.8, weight_decay=0.1
    ),
}
every_optimizer = pytest.mark.parametrize("name", OPTIMIZERS)


def reference_steps(name, param, gradients):
    m, v = np.zeros_like(param), np.zeros_like(param)
    for step, grad in enumerate(gradients, start=1):
        if name == "adam":
            options = {"lr": 0.01, "beta1": 0.8, "beta2": 0.95, "eps": 1e-6}
            param, m, v = reference.adam_step(param, grad, m, v, step, **options)
        elif name.startswith("rmsprop"):
            options = {"lr": 0.01, "eps": 1e-6}
            if name == "rmsprop_momentum":
                options = {"lr": 0.01, "alpha": 0.9, "eps": 1e-3, "momentum": 0.8}
                options["weight_decay"] = 0.1
            param, m, v = reference.rmsprop_step(param, grad, m, v, **options)
        elif name == "adamw":
            param, m, v = reference.adam_step(param, grad, m, v, step, 0.01, weight_decay=0.1)
        else:
            options = {
                "sgd": {},
                "sgd_decay": {"weight_decay": 0.2},
                "momentum": {"momentum": 0.9},
                "nesterov": {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
            }[name]
            param, m = reference.sgd_step(param, grad, m, 0.1, **options)
    return param


def parameters(dtype=np.float32):
    rng = np.random.default_rng(0)
    shapes = {"weight": (7, 5), "bias": (5,)}
    return [layers.Parameter(rng.standard_normal(s).astype(dtype), n) for n, s in shapes.items()]


def take_steps(optimizer, first, last):
    """Steps with gradients that depend on the step alone."""
    for step in range(first, last):
        rng = np.random.default_rng(step)
        for parameter in optimizer.parameters:
            grad = rng.standard_normal(parameter.data.shape)
            parameter.grad = grad.astype(parameter.data.dtype)
        optimizer.step()


@every_optimizer
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_ten_steps_are_the_formula(name, dtype):
    """Values and steps are of size 1, a step takes some 10 operations: 10 * 20 roundings."""
    ours = parameters(dtype)
    starts = [parameter.data.copy() for parameter in ours]
    memory = [parameter.data for parameter in ours]
    optimizer = OPTIMIZERS[name](ours)
    take_steps(optimizer, 0, 10)
    assert optimizer.step_count == 10
    for i, parameter in enumerate(ours):
        rngs = [np.random.default_rng(step) for step in range(10)]
        gradients = [[rng.standard_normal(s.shape) for s in starts][i] for rng in rngs]
        gradients = [gradient.astype(dtype) for gradient in gradients]
        expected = reference_steps(name, starts[i], gradients)
        assert parameter.data is memory[i]
        tolerance = 200 * np.finfo(dtype).eps
        np.testing.assert_allclose(parameter.data, expected, rtol=0, atol=tolerance)
        assert np.abs(expected - starts[i]).min() > 10 * tolerance


def test_epsilon_stands_where_the_docstring_says():
    """With eps = eps_hat / sqrt(1 - b2^t) a step is TensorFlow 1's with eps_hat."""
    eps_hat, b1, b2, lr, t = 1e-3, 0.9, 0.999, 0.01, 1
    parameter = layers.Parameter(np.array([1.0, 2.0, 3.0]))
    g = np.array([1e-3, -1e-2, 1.0])
    parameter.grad = g.copy()
    optim.Adam([parameter], lr, (b1, b2), eps=eps_hat / np.sqrt(1 - b2**t)).step()
    lr_t = lr * np.sqrt(1 - b2**t) / (1 - b1**t)
    expected = np.array([1.0, 2.0, 3.0]) - lr_t * (1 - b1) * g / (
        np.sqrt((1 - b2) * g**2) + eps_hat
    )
    np.testing.assert_allclose(parameter.data, expected, rtol=1e-13)


@every_optimizer
def test_training_goes_down(name):
    model = layers.Sequential(layers.Linear(4, 8, rng=1), layers.ReLU(), layers.Linear(8, 3, rng=2))
    optimizer = OPTIMIZERS[name](model.parameters())
    criterion, rng = losses.SoftmaxCrossEntropy(), np.random.default_rng(0)
    x, labels = rng.standard_normal((12, 4)).astype(np.float32), rng.integers(0, 3, 12)
    history = []
    for _ in range(30):
        loss, dlogits = criterion(model.forward(x), labels)
        history.append(loss)
        optimizer.zero_grad()
        model.backward(dlogits, input_gradient=False)
        optimizer.step()
    assert history[-1] < 0.8 * history[0]


def test_zero_grad_empties_all():
    ours = parameters()
    optimizer = optim.SGD(iter(ours), 1.0)
    take_steps(optimizer, 0, 1)
    assert all(parameter.grad is not None for parameter in ours)
    optimizer.zero_grad()
    assert all(parameter.grad is None for parameter in ours)


@every_optimizer
def test_a_step_without_a_gradient_changes_nothing(name):
    ours = parameters()
    optimizer = OPTIMIZERS[name](ours)
    before = [parameter.data.copy() for parameter in ours]
    state = optimizer.state_dict()
    ours[0].grad = np.ones_like(ours[0].data)
    kind = type(optimizer).__name__
    message = rf"{kind}: step\(\) without a gradient of bias: call model\.backward"
    with pytest.raises(RuntimeError, match=message):
        optimizer.step()
    for parameter, data in zip(ours, before, strict=True):
        np.testing.assert_array_equal(parameter.data, data)
    for key, array in optimizer.state_dict().items():
        np.testing.assert_array_equal(array, state[key])


def freeze(parameter):
    parameter.data.flags.writeable = False


def widen(parameter):
    parameter.astype(np.float64)
    parameter.grad = np.ones_like(parameter.data)


def take_the_gradient_for_data(parameter):
    parameter._data = parameter.grad  # the setters copy


def reshape_the_gradient(parameter):
    parameter.grad.shape = (5, 1)


@every_optimizer
@pytest.mark.parametrize(
    ("spoil", "kinds", "message"),
    [
        (freeze, "all", r"step\(\): data of bias is read-only, or has gaps; expected an array to"),
        (
            widen,
            "moments",
            r"step\(\): moment \w of bias is float32 of shape \(5,\); expected float64",
        ),
        (
            take_the_gradient_for_data,
            "all",
            "data and grad of bias share memory; expected arrays of",
        ),
        (
            reshape_the_gradient,
            "all",
            r"grad of bias is float32 of shape \(5, 1\); expected .*\(5,\)",
        ),
    ],
)
def test_a_step_that_cannot_be_made_changes_nothing(name, spoil, kinds, message):
    ours = parameters()
    optimizer = OPTIMIZERS[name](ours)
    if kinds == "moments" and not optimizer._moments:
        pytest.skip("no moments")
    take_steps(optimizer, 0, 1)
    for parameter in ours:
        parameter.grad = np.ones_like(parameter.data)
    spoil(ours[-1])
    before, state = [parameter.data.copy() for parameter in ours], optimizer.state_dict()
    with pytest.raises((TypeError, ValueError), match=message):
        optimizer.step()
    for parameter, data in zip(ours, before, strict=True):
        np.testing.assert_array_equal(parameter.data, data)
    for key, array in optimizer.state_dict().items():
        np.testing.assert_array_equal(array, state[key])


def test_a_gradient_from_the_data_is_a_copy():
    """Of parameters in one step, none may change alone: the gradient once was the data itself."""
    ours = parameters()
    before = [parameter.data.copy() for parameter in ours]
    for parameter in ours:
        parameter.grad = parameter.data
    optim.SGD(ours, 0.5).step()
    for parameter, data in zip(ours, before, strict=True):
        np.testing.assert_array_equal(parameter.data, data / 2)


def test_the_learning_rate_may_change():
    parameter = layers.Parameter(np.zeros(1))
    optimizer = optim.SGD([parameter], lr=1.0)
    for lr in (1.0, 0.5, 0):
        optimizer.lr = lr
        parameter.grad = np.ones(1)
        optimizer.step()
    assert parameter.data == [-1.5]
    for bad in (-1.0, float("nan"), float("inf"), "0.1", None):
        with pytest.raises(ValueError, match=r"SGD: lr is .*; expected a finite number"):
            optimizer.lr = bad
    assert optimizer.lr == 0


# States


@every_optimizer
@pytest.mark.parametrize("way", ["state_dict", "deepcopy", "pickle"])
def test_stopping_and_going_on_makes_no_difference(name, way):
    straight = OPTIMIZERS[name](parameters())
    take_steps(straight, 0, 10)
    stopped = OPTIMIZERS[name](parameters())
    take_steps(stopped, 0, 4)
    if way == "state_dict":
        state = stopped.state_dict()
        resumed = OPTIMIZERS[name]([copy.deepcopy(p) for p in stopped.parameters])
        take_steps(stopped, 4, 5)  # what was saved is apart
        resumed.load_state_dict(state)
    else:
        resumed = (
            copy.deepcopy(stopped) if way == "deepcopy" else pickle.loads(pickle.dumps(stopped))
        )
    take_steps(resumed, 4, 10)
    assert resumed.step_count == 10
    for ours, theirs in zip(resumed.parameters, straight.parameters, strict=True):
        np.testing.assert_array_equal(ours.data, theirs.data)


def test_state_dict_has_the_step_and_the_moments():
    ours = parameters()
    assert set(optim.Adam(ours).state_dict()) == {"step", "m.0", "m.1", "v.0", "v.1"}
    assert set(optim.SGD(ours, 0.1).state_dict()) == {"step"}
    optimizer = optim.SGD(ours, 0.1, momentum=0.5)
    take_steps(optimizer, 0, 3)
    state = optimizer.state_dict()
    assert set(state) == {"step", "u.0", "u.1"}
    assert state["step"] == 3
    assert state["step"].dtype == np.int64
    assert state["u.0"].shape == (7, 5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("m.1"), "Adam.load_state_dict: missing: 'm.1'."),
        (lambda d: d.update(u=d["m.0"]), "unexpected: 'u'."),
        (lambda d: d.update({"v.0": d["v.1"]}), "'v.0' has shape (5,); expected (7, 5)."),
        (lambda d: d.update({"v.1": np.zeros(5)}), "'v.1' is float64; expected float32"),
        (lambda d: d.update(step=3), "'step' is an int; expected a NumPy array."),
        (lambda d: d.update(step=np.array(3.0)), "'step' is float64; expected int64"),
        (lambda d: d.update(step=np.array(-1)), "'step' is -1; expected 0 or more."),
    ],
)
def test_a_wrong_state_is_refused_and_nothing_changes(change, message):
    source, target = optim.Adam(parameters()), optim.Adam(parameters())
    take_steps(source, 0, 3)
    state, before = source.state_dict(), target.state_dict()
    change(state)
    with pytest.raises(ValueError, match=re.escape(message)):
        target.load_state_dict(state)
    for name, array in target.state_dict().items():
        np.testing.assert_array_equal(array, before[name])
    assert target.step_count == 0


# Sentences


WRONG = [
    (lambda p: optim.Adam(p, lr=0), "Adam: lr is 0; expected a finite number above 0"),
    (lambda p: optim.Adam(p, lr=-1e-3), "Adam: lr is -0.001; expected"),
    (lambda p: optim.AdamW(p, lr=float("nan")), "AdamW: lr is nan; expected"),
    (lambda p: optim.SGD(p, lr=float("inf")), "SGD: lr is inf; expected"),
    (lambda p: optim.SGD(p, lr=True), "SGD: lr is True; expected"),
    (lambda p: optim.Adam(p, betas=(0.9, 1.0)), r"betas is \(0.9, 1.0\); expected two numbers"),
    (lambda p: optim.Adam(p, betas=(-0.1, 0.9)), "betas is .*; expected two numbers"),
    (lambda p: optim.Adam(p, betas=0.9), "betas is 0.9; expected two numbers"),
    (lambda p: optim.Adam(p, betas=(0.9,)), "betas is .*; expected two numbers"),
    (lambda p: optim.Adam(p, eps=0.0), "eps is 0.0; expected a finite number above 0"),
    (lambda p: optim.AdamW(p, weight_decay=-1), "weight_decay is -1; expected a finite number"),
    (lambda p: optim.SGD(p, 0.1, momentum=1.0), "momentum is 1.0; expected a number, at least 0"),
    (lambda p: optim.SGD(p, 0.1, nesterov=True), "nesterov=True with momentum 0; expected"),
    (lambda p: optim.SGD(p, 0.1, weight_decay=float("nan")), "weight_decay is nan; expected"),
    (lambda p: optim.RMSprop(p, alpha=1.0), "alpha is 1.0; expected a number, at least 0"),
    (lambda p: optim.RMSprop(p, momentum=-1), "momentum is -1; expected a number, at least 0"),
    (lambda p: optim.RMSprop(p, eps=0), "RMSprop: eps is 0; expected a finite number above 0"),
    (lambda p: optim.Adam([]), r"no parameters; expected at least one: write model\.parameters"),
    (lambda p: optim.Adam([*p, p[0]]), "a parameter comes twice; .*weight, bias, weight"),
]


@pytest.mark.parametrize(("wrong", "message"), WRONG)
def test_a_wrong_argument_is_a_sentence(wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong(parameters())


def test_only_parameters_are_accepted():
    with pytest.raises(TypeError, match=r"a parameter is a ndarray; expected layers\.Parameter"):
        optim.Adam([np.zeros(3, np.float32)])


def test_the_defaults_are_the_lectures():
    optimizer = optim.Adam(parameters())
    assert (optimizer.lr, optimizer.betas, optimizer.eps) == (1e-3, (0.9, 0.999), 1e-8)
    assert optim.AdamW(parameters()).weight_decay == 1e-2


def test_one_call_for_all_parameters(monkeypatch):
    calls = []
    step = _ops_optim.adam_all
    note = lambda *a, **k: calls.append(k["step"]) or step(*a, **k)  # noqa: E731
    monkeypatch.setattr(_ops_optim, "adam_all", note)
    monkeypatch.delattr(ops, "adam_step")
    model = models.mnist_cnn()
    optimizer = optim.Adam(model.parameters())
    take_steps(optimizer, 0, 2)
    assert calls == [1, 2]


@every_optimizer
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_all_parameters_in_one_call_get_the_bits_of_one_call_each(isa, num_threads, name, dtype):
    """Enough elements for several threads, whose ranges begin inside of parameters."""
    rng = np.random.default_rng(1)
    shapes = [(40_001,), (3, 5), (1,), (200_003,), (17,)]

    def make():
        return [layers.Parameter(start.astype(dtype), f"p{i}") for i, start in enumerate(starts)]

    starts = [rng.standard_normal(shape) for shape in shapes]
    together, alone = OPTIMIZERS[name](make()), OPTIMIZERS[name](make())
    alone._update_all = lambda t, roles: False
    for optimizer in (together, alone):
        optimizer.parameters[1].decays = False
        take_steps(optimizer, 0, 2)
    for ours, theirs in zip(together.parameters, alone.parameters, strict=True):
        np.testing.assert_array_equal(ours.data, theirs.data)
    for key, array in together.state_dict().items():
        np.testing.assert_array_equal(array, alone.state_dict()[key])


def test_an_optimizer_of_ones_own_needs_one_formula():
    class Signs(optim.Optimizer):
        def _update(self, i, t, param, grad):
            param -= self.lr * np.sign(grad)

    class HalfAdam(optim.Adam):
        def _update(self, i, t, param, grad):
            super()._update(i, t, param, grad / 2)

    ours = parameters()
    before = [parameter.data.copy() for parameter in ours]
    take_steps(Signs(ours, 0.5), 0, 1)
    for parameter, data in zip(ours, before, strict=True):
        np.testing.assert_allclose(np.abs(parameter.data - data), 0.5, rtol=1e-6)
    halved = HalfAdam(parameters(), eps=1.0)
    plain = optim.Adam(parameters(), eps=1.0)
    for optimizer in (halved, plain):
        take_steps(optimizer, 0, 1)
    assert not np.array_equal(halved.parameters[0].data, plain.parameters[0].data)

"""Networks that branch: values and gradients against each layer by itself, names, sentences."""

import copy
import pickle

import numpy as np
import pytest
from graph_cases import (
    Basic,
    Residual,
    all_of,
    by_hand,
    every_network,
    make,
    step,
)

import pycnn
from pycnn import layers, losses, ops, optim
from pycnn.layers import BatchNorm2d, Conv2d, Dropout, Flatten, Linear, Module, ReLU, Sequential


def assert_all_equal(found, expected):
    for i, (one, other) in enumerate(zip(found, expected, strict=True)):
        np.testing.assert_array_equal(one, other, err_msg=f"array {i}")


@every_network
def test_a_step_is_the_layers_by_hand(name):
    """In float64: the same sums, perhaps in another order."""
    model, xs, dys = make(name, np.float64)
    expected = by_hand(copy.deepcopy(model), xs, dys)
    found = step(model, xs, dys)
    for i, (one, other) in enumerate(zip(found, expected, strict=True)):
        np.testing.assert_allclose(one, other, rtol=1e-11, atol=1e-11, err_msg=f"array {i}")


@every_network
def test_fused_is_plain_but_for_rounding(name):
    model, xs, dys = make(name)
    twin = copy.deepcopy(model).fuse(False)
    plain = step(twin, xs, dys)
    for i, (one, other) in enumerate(zip(step(model, xs, dys), plain, strict=True)):
        atol = 2e-5 * max(1, np.abs(other).max())
        np.testing.assert_allclose(one, other, rtol=0, atol=atol, err_msg=f"array {i}")
    for name, array in model.state_dict().items():
        np.testing.assert_allclose(array, twin.state_dict()[name], rtol=1e-4, atol=1e-5)


@every_network
def test_without_the_gradient_of_the_inputs(name):
    model, xs, dys = make(name)
    twin = copy.deepcopy(model)
    step(model, xs, dys)
    twin.forward(*xs)
    assert twin.backward(*dys, input_gradient=False) is None
    pairs = zip(twin.parameters(), model.parameters(), strict=True)
    assert_all_equal(*zip(*((a.grad, b.grad) for a, b in pairs), strict=True))


@every_network
def test_steps_repeat_and_batches_grow_and_shrink(name):
    """The arena of another batch, of eval mode and of a failed forward leaves nothing behind."""
    model, xs, dys = make(name)
    fresh = copy.deepcopy(model)
    twin = copy.deepcopy(model)
    for n in (2, 1, len(xs[0]), 0):
        twin.load_state_dict(fresh.state_dict())
        twin.load_rng_state(fresh.rng_state())
        part = [x[:n] for x in xs], [dy[:n] for dy in dys]
        if n == 0 and any(isinstance(layer, BatchNorm2d) for _, layer in model.named_layers()):
            continue  # there is no mean of nothing
        alone = copy.deepcopy(fresh)
        assert_all_equal(step(twin, *part), step(alone, *part))
        twin.eval().forward(*part[0])
        twin.train()


@every_network
def test_results_stay_and_arguments_are_not_written(name):
    model, xs, dys = make(name)
    for array in (*xs, *dys):
        array.flags.writeable = False
    kept = []
    for factor in (1, -1):
        ys = all_of(model.forward(*(np.float32(factor) * x for x in xs)))
        dxs = all_of(model.backward(*dys))
        kept += [(a, a.copy()) for a in (*ys, *dxs)]
        outside = [a for a in (*ys, *dxs) if not any(np.shares_memory(a, b) for b in (*xs, *dys))]
        assert len(outside) >= len(ys) + len(dxs) - 2  # "many": an output that is an input
        model.eval().forward(*xs)
        model.train()
    for array, as_it_was in kept:
        np.testing.assert_array_equal(array, as_it_was)


@every_network
def test_a_result_that_the_user_changes_does_not_change_the_gradient(name):
    model, xs, dys = make(name)
    twin = copy.deepcopy(model)
    expected = step(twin, xs, dys)
    ys = all_of(model.forward(*xs))
    for y in ys:
        if not any(np.shares_memory(y, x) for x in xs):
            y[...] = np.nan
    dxs = all_of(model.backward(*dys))
    assert_all_equal([*dxs, *(p.grad for p in model.parameters())], expected[len(ys) :])


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
@every_network
def test_copies_are_models_of_their_own(name, copied):
    model, xs, dys = make(name)
    fresh = copy.deepcopy(model)
    step(model, xs, dys)
    model.load_state_dict(fresh.state_dict())
    model.load_rng_state(fresh.rng_state())
    twin = copied(model)
    for parameter in model.parameters():
        parameter.data[...] = np.nan
    assert_all_equal(step(twin, xs, dys), step(fresh, xs, dys))


@every_network
def test_threads_do_not_change_a_bit(name):
    results = []
    for threads in (1, 2, 3, 8):
        with pycnn.num_threads(threads):
            results.append(step(*make(name)))
    for other in results[1:]:
        assert_all_equal(other, results[0])


def trained(isa="", threads=2, steps=50):
    """The state of a residual network after so many steps."""
    rng = np.random.default_rng(0)
    images, labels = rng.random((64, 9, 8, 3), np.float32), rng.integers(0, 4, 64)
    model = Residual(widths=(16, 16, 20))
    optimizer, loss_of = optim.Adam(model.parameters(), 1e-2), losses.SoftmaxCrossEntropy()
    before = pycnn.isa()
    try:
        pycnn.use_isa(isa or before)
        with pycnn.num_threads(threads):
            for _ in range(steps):
                batch = rng.integers(0, 64, 16)
                loss, dlogits = loss_of(model.forward(images[batch]), labels[batch])
                optimizer.zero_grad()
                model.backward(dlogits, input_gradient=False)
                optimizer.step()
    finally:
        pycnn.use_isa(before)
    return loss, model.state_dict()


def test_fifty_steps_of_a_residual_network_have_the_same_bits():
    """On 1, 2, 3 and 8 threads, and on every instruction set with FMA."""
    runs = [trained(threads=n) for n in (1, 2, 3, 8)]
    runs += [trained(isa) for isa in pycnn.available_isas() if isa != "baseline"]
    assert runs[0][0] < 1.0, "it learns"
    for loss, state in runs[1:]:
        assert loss == runs[0][0]
        assert_all_equal(state.values(), runs[0][1].values())


# Names


def test_names_are_paths_of_attributes():
    class Net(Module):
        def __init__(self):
            super().__init__()
            self.stem = Conv2d(3, 4, 1, bias=False)
            self.layer1 = Sequential(Basic(4, 4, 1, 0), Basic(4, 6, 2, 0))
            self.ends = {"left": Linear(6, 2), "right": [Linear(6, 2, bias=False)]}

    names = [name for name, _ in Net().named_parameters()]
    assert names[0] == "stem.weight"
    assert names[1:4] == ["layer1.0.conv1.weight", "layer1.0.norm1.weight", "layer1.0.norm1.bias"]
    assert "layer1.1.shortcut.0.weight" in names
    assert names[-3:] == ["ends.left.weight", "ends.left.bias", "ends.right.0.weight"]
    state = list(Net().state_dict())
    assert state[: len(names)] == names
    assert state[len(names) :][:2] == ["layer1.0.norm1.running_mean", "layer1.0.norm1.running_var"]


def test_a_shared_layer_is_listed_once():
    conv = Conv2d(1, 1, 1)
    model = Sequential(conv, Sequential(ReLU(), conv))
    assert [name for name, _ in model.named_parameters()] == ["0.weight", "0.bias"]
    x = np.ones((1, 1, 1, 1), np.float32)
    conv.weight.data[...], conv.bias.data[...] = 3, 1
    assert model.forward(x).item() == 13  # 3 * (3 + 1) + 1
    model.backward(x)
    assert conv.weight.grad.item() == 3 + 4  # w x -> w: x w' + y
    assert conv.bias.grad.item() == 3 + 1


def test_one_module_in_two_networks():
    body = Basic(4, 4, 1, 0)
    one = Sequential(body, Flatten(), Linear(16, 2))
    two = Sequential(Sequential(body), layers.GlobalAvgPool2d())
    x = np.random.default_rng(0).standard_normal((2, 2, 2, 4), np.float32)
    y, z = one.forward(x), two.forward(x)  # both wait for their backward
    one.backward(y)
    first = body.conv1.weight.grad.copy()
    two.backward(z)
    assert np.abs(body.conv1.weight.grad - first).max() > 0, "gradients of both add up"
    with pytest.raises(
        ValueError, match=r"^layer 0\.0\.conv1 \(Conv2d\): x has shape \(2, 2, 2, 3"
    ):
        two.forward(x[..., :3])
    with pytest.raises(ValueError, match=r"^layer 0\.conv1 \(Conv2d\): x has shape"):
        one.forward(x[..., :3])


def test_an_unused_parameter_has_a_gradient_of_zeros():
    model, xs, dys = make("many")
    model.forward(*xs)
    model.backward(*dys)
    for parameter in model.unused.parameters():
        np.testing.assert_array_equal(parameter.grad, np.zeros_like(parameter.data))
    model.forward(*xs)
    model.unused.weight.grad[...] = 5  # gradients add up
    model.backward(*dys)
    assert (model.unused.weight.grad == 5).all()


def test_an_input_that_nothing_reads():
    class First(Module):
        def forward(self, x, z):
            return x * 2

    x, z = np.ones((2, 3), np.float32), np.ones((2, 1), np.float32)
    model = First()
    np.testing.assert_array_equal(model.forward(x, z), 2 * x)
    dx, dz = model.backward(x)
    np.testing.assert_array_equal(dx, 2 * x)
    np.testing.assert_array_equal(dz, np.zeros_like(z))


# A network that changes


def test_what_changes_is_traced_anew():
    model, (x,), _ = make("residual")
    model.eval()
    before = model.forward(x)
    model.blocks[0].conv1 = Conv2d(6, 6, 3, padding=1, bias=False, rng=99).eval()
    assert not np.array_equal(model.forward(x), before), "an assigned layer"
    kept = model.forward(x)
    model.blocks.append(Basic(8, 8, 1, 7).eval())
    longer = model.forward(x)
    assert not np.array_equal(longer, kept), "a list that grew"
    model.blocks.pop()
    np.testing.assert_array_equal(model.forward(x), kept)
    model.blocks[0].conv1.stride = (1, 1)
    np.testing.assert_array_equal(model.forward(x), kept)
    assert "Conv2d + ReLU" in model.plan()
    assert "Conv2d + ReLU" not in model.fuse(False).plan()


def test_forward_may_branch_on_the_mode_and_on_shapes():
    class Net(Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = Linear(2, 2, rng=0), Linear(2, 2, rng=1)

        def forward(self, x):
            y = self.a(x) if x.shape[-1] == 2 else x
            return self.b(y) if self.training else y

    model, x = Net(), np.ones((1, 2), np.float32)
    a, b = model.a, model.b
    expected = a.forward(x)
    for _ in range(2):
        np.testing.assert_array_equal(model.train().forward(x), b.forward(expected))
        np.testing.assert_array_equal(model.eval().forward(x), expected)
    wide = np.ones((1, 3), np.float32)
    np.testing.assert_array_equal(model.forward(wide), wide)


def test_modes_of_single_layers_count():
    model, xs, dys = make("residual")
    model.blocks[0].norm1.eval()
    mean = model.blocks[0].norm1.running_mean.copy()
    model.forward(*xs)
    np.testing.assert_array_equal(model.blocks[0].norm1.running_mean, mean)
    assert np.abs(model.blocks[1].norm1.running_mean).max() > 0
    with pytest.raises(RuntimeError, match=r"^blocks\.0\.norm1 \(BatchNorm2d\): backward in eval"):
        model.backward(*dys)
    model.train(False)
    assert not model.blocks[1].norm1.training
    model.train(True)
    assert model.blocks[0].norm1.training


def test_a_norm_that_runs_twice_moves_its_statistics_twice():
    model, xs, _ = make("twice")
    norm, conv = model.norm, model.conv
    norm.weight.data[...], norm.bias.data[...] = 1, 0
    twin = copy.deepcopy(norm)
    model.forward(*xs)
    first = twin.forward(conv.forward(*xs))
    twin.forward(conv.forward(np.maximum(first, 0)))
    np.testing.assert_allclose(norm.running_mean, twin.running_mean, rtol=1e-5)
    np.testing.assert_allclose(norm.running_var, twin.running_var, rtol=1e-5)


def test_arithmetic_with_numbers():
    class Net(Module):
        def forward(self, x):
            return 3 - x, x - 3, -x, x / 4, x * 0.5 + 1, 2 + x, layers.add(x, x), x - x * x

    x = np.array([[1.5, -2.0]], np.float32)
    expected = [3 - x, x - 3, -x, x / 4, x * 0.5 + 1, 2 + x, x + x, x - x * x]
    model = Net()
    assert_all_equal(model.forward(x), expected)
    dx = model.backward(*[x] * 8)
    np.testing.assert_allclose(dx, x * (-1 + 1 - 1 + 0.25 + 0.5 + 1 + 2 + 1 - 2 * x), rtol=1e-6)
    compiled = model.compile_inference((None, 2))
    assert_all_equal(compiled(x), expected)


def test_functions_take_arrays_as_well():
    x = np.array([[1.0, -2.0, 3.0]], np.float32)
    np.testing.assert_array_equal(layers.relu(x), ops.relu(x))
    np.testing.assert_array_equal(layers.concat([x, x]), np.concatenate([x, x], axis=1))
    assert_all_equal(layers.split(x, [1, 2]), [x[:, :1], x[:, 1:]])
    np.testing.assert_array_equal(layers.subtract(x, 2 * x), -x)
    np.testing.assert_array_equal(layers.multiply(x, x), x * x)
    assert layers.flatten(np.ones((2, 3, 4))).shape == (2, 12)


def test_a_dropout_called_twice_draws_two_masks():
    class Net(Module):
        def __init__(self):
            super().__init__()
            self.dropout = Dropout(0.5, rng=0)

        def forward(self, x):
            return self.dropout(x), self.dropout(x)

    model, x = Net(), np.ones((4, 50), np.float32)
    a, b = model.forward(x)
    assert not np.array_equal(a, b)
    np.testing.assert_array_equal(model.backward(x, 0 * x), a)
    assert model.rng_state()["dropout"][1] == 2

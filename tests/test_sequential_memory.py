"""Memory of a Sequential: reused inside, new at both ends, left behind by copies."""

import copy
import tracemalloc

import numpy as np
import pytest
from model_cases import every_model, make

from pycnn import losses, models, optim
from pycnn.layers import AvgPool2d, Conv2d, Dropout, Flatten, Linear, MaxPool2d, ReLU, Sequential


def test_one_model_for_float32_and_float64_in_turn():
    model = Sequential(ReLU(), AvgPool2d(1), ReLU())
    for dtype in (np.float64, np.float32, np.float64):
        x = np.array([-1, 2], dtype).reshape(1, 1, 2, 1)
        y = model.forward(x)
        assert y.dtype == dtype
        np.testing.assert_array_equal(model.backward(y), y)


def arena_of(model):
    """The memory of the only run of a model that waits for nothing."""
    (run,) = model._running._idle
    return run._arena


@every_model
def test_inner_memory_is_the_same_in_every_step(name):
    """One arena, which results never share; only the ends are new."""
    model, x, dy = make(name)
    results, arenas = [], []
    for _ in range(3):
        model.zero_grad()
        results += [model.forward(x), model.backward(dy)]
        arenas.append(arena_of(model))
    assert arenas[0] is arenas[1] is arenas[2]
    assert arenas[0].ctypes.data % 64 == 0
    assert not any(np.shares_memory(result, arenas[0]) for result in results)
    assert len({array.ctypes.data for array in results}) == 6


def test_a_step_after_the_first_allocates_nothing_large():
    model = models.mnist_cnn(init="he")
    optimizer = optim.Adam(model.parameters())
    criterion = losses.SoftmaxCrossEntropy()
    rng = np.random.default_rng(0)
    x, labels = rng.random((20, 28, 28, 1), np.float32), rng.integers(0, 10, 20)

    def step(n):
        optimizer.zero_grad()
        _, dlogits = criterion(model.forward(x[:n]), labels[:n])
        model.backward(dlogits, input_gradient=False)
        optimizer.step()

    def peak(n):
        tracemalloc.start()
        try:
            step(n)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    large = 20 * 28 * 28 * 32 * 4  # the first convolution's output
    assert peak(20) > large
    limit = large // 50
    assert peak(20) < limit
    assert peak(7) < limit  # the last batch of an epoch
    assert peak(20) < limit
    model.eval().forward(x)
    model.train()
    assert peak(20) < limit


@every_model
def test_batches_of_any_size_do_not_disturb_each_other(name):
    model, x, _ = make(name)
    model.eval()
    batch = np.concatenate([x, -x, 2 * x])
    expected = copy.deepcopy(model).forward(batch)
    for n in (6, 1, 4, 0, 6, 3):
        np.testing.assert_array_equal(model.forward(batch[:n]), expected[:n])


CHAINS = {
    "relu_last": lambda: (Conv2d(1, 2, 2), ReLU()),
    "pool_last": lambda: (Conv2d(1, 2, 2), ReLU(), MaxPool2d(2)),
    "flatten_last": lambda: (Conv2d(1, 2, 2), ReLU(), Flatten()),
    "flatten_twice": lambda: (ReLU(), Flatten(), Flatten()),
    "flatten_alone": lambda: (Flatten(),),
    "relu_alone": lambda: (ReLU(),),
    "relu_first": lambda: (ReLU(), ReLU(), Conv2d(1, 1, 1)),
    "flatten_first": lambda: (Flatten(), Linear(36, 4), ReLU()),
    "pool_first": lambda: (ReLU(), MaxPool2d(2), Flatten()),
    "dropout_last": lambda: (AvgPool2d(2), ReLU(), Dropout(0.5)),
    "dropout_both": lambda: (Dropout(0.2), Conv2d(1, 1, 1), Dropout(0.5), Flatten()),
    "nested_last": lambda: (Conv2d(1, 2, 2), Sequential(ReLU(), Sequential(Flatten()))),
    "nested_first": lambda: (Sequential(Flatten(), Dropout(0.5)), Linear(36, 3)),
    "nested_relu": lambda: (Sequential(Conv2d(1, 2, 2)), ReLU(), Sequential(ReLU(), MaxPool2d(2))),
}


@pytest.mark.parametrize("training", [True, False], ids=["training", "eval"])
@pytest.mark.parametrize("name", CHAINS)
def test_results_stay_and_arguments_are_not_written(name, training):
    model = Sequential(*CHAINS[name]())
    rng = np.random.default_rng(1)
    x = rng.standard_normal((2, 6, 6, 1)).astype(np.float32)
    dy = rng.standard_normal(model.output_shape(x.shape)).astype(np.float32)
    x.flags.writeable = dy.flags.writeable = False
    views = name == "flatten_alone" or (name == "nested_first" and not training)
    arrays = []
    for factor in (1, -1, 2):
        scaled = np.float32(factor) * x
        results = [(train_or_eval(model, training)).forward(scaled)]
        if training:
            results.append(model.backward(dy))
        arrays += [(result, result.copy()) for result in results]
    for result, as_it_was in arrays:
        np.testing.assert_array_equal(result, as_it_was)
    if not views:
        found = [result for result, _ in arrays] + [x, dy]
        for i, one in enumerate(found):
            assert not any(np.shares_memory(one, other) for other in found[:i])


def train_or_eval(model, training):
    return model.train() if training else model.eval()


@every_model
def test_forward_leaves_an_earlier_result_alone_between_forward_and_backward(name):
    model, x, dy = make(name)
    a = model.forward(x)
    copied = a.copy()
    b = model.forward(-x)
    model.backward(dy)
    np.testing.assert_array_equal(a, copied)
    assert not np.array_equal(a, b)

"""Weight decay, which some parameters skip, and the clipping of gradients."""

import copy
import pickle

import numpy as np
import pytest
from test_optim import parameters

import pycnn
from pycnn import layers, optim

# Weight decay


def test_what_decays():
    model = layers.Sequential(
        layers.Conv2d(1, 2, 3), layers.BatchNorm2d(2), layers.Flatten(), layers.Linear(8, 2)
    )
    decaying = [parameter.name for parameter in model.parameters() if parameter.decays]
    assert decaying == ["0.weight", "3.weight"]
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert [parameter.name for parameter in twin.parameters() if parameter.decays] == decaying
    assert layers.Parameter(np.zeros(1)).decays is True


@pytest.mark.parametrize(
    "make",
    [
        lambda p: optim.AdamW(p, 0.1, weight_decay=0.5),
        lambda p: optim.SGD(p, 0.1, weight_decay=0.5),
        lambda p: optim.RMSprop(p, 0.1, weight_decay=0.5),
    ],
    ids=["adamw", "sgd", "rmsprop"],
)
def test_weight_decay_skips_what_does_not_decay(make):
    decaying, other = (layers.Parameter(np.full(3, 2.0), "p", decays=d) for d in (True, False))
    for parameter in (decaying, other):
        parameter.grad = np.zeros(3)
    make([decaying, other]).step()
    np.testing.assert_array_equal(other.data, np.full(3, 2.0))
    assert (decaying.data < 2).all()


# Clipping


def gradients_of(ours, dtype=np.float32):
    rng = np.random.default_rng(3)
    for parameter in ours:
        parameter.grad = (3 * rng.standard_normal(parameter.data.shape)).astype(dtype)
    return [np.array(parameter.grad, np.float64) for parameter in ours]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("max_norm", [0.5, 1e6])
def test_clip_grad_norm_is_the_formula(isa, num_threads, dtype, max_norm):
    shapes = [(300, 401), (7,), (1,), (4096,), (9, 1000)]
    ours = [layers.Parameter(np.zeros(shape, dtype)) for shape in shapes]
    before = gradients_of(ours, dtype)
    exact = np.sqrt(sum((g**2).sum() for g in before))
    norm = optim.clip_grad_norm(iter(ours), max_norm)
    assert type(norm) is float
    np.testing.assert_allclose(norm, exact, rtol=1e-12)
    factor = min(1.0, max_norm / (exact + 1e-6))
    for parameter, g in zip(ours, before, strict=True):
        rtol = 0 if factor == 1 else 3 * np.finfo(dtype).eps
        np.testing.assert_allclose(parameter.grad, g * factor, rtol=rtol)


def test_clip_grad_norm_has_the_same_bits_for_any_thread_count():
    results = set()
    for threads in (1, 2, 3, 8):
        for isa_name in pycnn.available_isas():
            with pycnn.num_threads(threads):
                before = pycnn.isa()
                pycnn.use_isa(isa_name)
                ours = [layers.Parameter(np.zeros(500_001, np.float32)) for _ in range(2)]
                gradients_of(ours)
                norm = optim.clip_grad_norm(ours, 1.0)
                pycnn.use_isa(before)
            results.add((norm, *(parameter.grad.tobytes() for parameter in ours)))
    assert len(results) == 1


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_norm_that_is_not_finite_is_told_and_changes_nothing(bad):
    ours = parameters()
    before = gradients_of(ours)
    ours[0].grad[2, 2] = bad
    assert not np.isfinite(optim.clip_grad_norm(ours, 1.0))
    np.testing.assert_array_equal(ours[1].grad, before[1])


def test_wrong_clipping_is_a_sentence():
    ours = parameters()
    with pytest.raises(RuntimeError, match=r"clip_grad_norm: no gradient of weight, bias: call"):
        optim.clip_grad_norm(ours, 1.0)
    gradients_of(ours)
    for bad in (0, -1.0, np.nan, np.inf, "1", None):
        with pytest.raises(ValueError, match=r"clip_grad_norm: max_norm is .*; expected a"):
            optim.clip_grad_norm(ours, bad)
    with pytest.raises(ValueError, match="clip_grad_norm: no parameters"):
        optim.clip_grad_norm([], 1.0)
    with pytest.raises(TypeError, match=r"a parameter is a ndarray; expected layers\.Parameter"):
        optim.clip_grad_norm([np.zeros(2)], 1.0)
    ours[1].astype(np.float64)
    ours[1].grad = np.ones(5)
    with pytest.raises(TypeError, match="grad is float64, but the first grad is float32"):
        optim.clip_grad_norm(ours, 1.0)


@pytest.mark.parametrize(
    "make",
    [optim.Adam, lambda p: optim.SGD(p, 0.1, momentum=0.9), optim.RMSprop],
    ids=["adam", "momentum", "rmsprop"],
)
def test_a_gradient_that_overlaps_the_data_changes_nothing(make):
    """The last one is wrong, by a view that begins elsewhere: the first must not have changed."""
    ours = parameters()
    optimizer = make(ours)
    gradients_of(ours)
    room = np.arange(8, dtype=np.float32)
    ours[-1]._data, ours[-1]._grad = room[:5], room[3:]  # the setters copy
    before = [parameter.data.copy() for parameter in ours]
    with pytest.raises(ValueError, match="data and grad of bias share memory; expected arrays of"):
        optimizer.step()
    for parameter, data in zip(ours, before, strict=True):
        np.testing.assert_array_equal(parameter.data, data)


def test_a_state_replaces_the_steps_that_were_made():
    source, target = (optim.Adam(parameters()) for _ in range(2))
    for optimizer, steps in ((source, 4), (target, 2)):
        for _ in range(steps):
            gradients_of(optimizer.parameters)
            optimizer.step()
    target.load_state_dict(source.state_dict())
    assert target.step_count == 4
    assert target.state_dict()["step"] == 4

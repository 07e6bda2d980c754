"""Memory of a plan: nothing that is needed is overwritten, nothing lies in two places at once."""

import copy

import numpy as np
import pytest
from graph_cases import all_of, every_network, make, step

from pycnn import layers
from pycnn.graph import memory, run
from pycnn.graph.memory import Block
from pycnn.layers import BatchNorm2d, Conv2d, Linear, Module, ReLU, Sequential


def plan_of(model, xs):
    return model._running.plan_for(tuple(xs))


@pytest.mark.parametrize("fusing", [True, False])
@every_network
def test_what_is_dead_may_be_overwritten(name, fusing, monkeypatch):
    """Every block is filled with NaN at the moment from which nobody reads it, and at first."""
    model, xs, dys = make(name)
    model.fuse(fusing)
    twin = copy.deepcopy(model)
    expected = step(model, xs, dys)
    inside = model.eval().forward(*xs)
    monkeypatch.setattr(run, "POISON", True)
    for one, other in zip(step(twin, xs, dys), expected, strict=True):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(all_of(twin.eval().forward(*xs)), all_of(inside), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_poison_would_be_seen(monkeypatch):
    """A block that is called dead one moment too early."""
    model, xs, dys = make("residual")
    plan = plan_of(model, xs)
    monkeypatch.setattr(run, "POISON", True)
    assert np.isfinite(step(model, xs, dys)[0]).all()
    for block in plan.blocks:
        block.last -= 1
    assert not all(np.isfinite(array).all() for array in step(model, xs, dys))


def test_blocks_that_live_together_lie_apart(rng):
    for _ in range(20):
        blocks = []
        for _ in range(60):
            first = int(rng.integers(0, 100))
            size = memory.lines(int(rng.integers(1, 2000)))
            blocks.append(Block(size, first, first + int(rng.integers(0, 20))))
        total = memory.place(blocks)
        assert total == max(b.offset + b.size for b in blocks)
        most = max(sum(b.size for b in blocks if b.first <= t <= b.last) for t in range(120))
        assert most <= total <= 1.5 * most
        for i, a in enumerate(blocks):
            assert a.offset % memory.LINE == 0
            for b in blocks[:i]:
                together = a.first <= b.last and b.first <= a.last
                assert (
                    not together or a.offset + a.size <= b.offset or b.offset + b.size <= a.offset
                )


def test_moments_at_the_ends_count():
    a, b, c = Block(64, 0, 3), Block(64, 3, 5), Block(64, 4, 4)
    assert memory.place([a, b, c]) == 128
    assert a.offset != b.offset
    assert b.offset != c.offset
    assert c.offset == a.offset


def test_a_chain_needs_two_maps_in_eval_mode():
    parts = [Conv2d(8, 8, 1, rng=0) for _ in range(6)]
    model = Sequential(*parts).eval()
    x = np.ones((1, 4, 4, 8), np.float32)
    assert plan_of(model, [x]).bytes == 2 * x.nbytes


def test_a_training_step_keeps_what_backward_reads():
    parts = [Conv2d(8, 8, 1, rng=0) for _ in range(6)]
    model = Sequential(*parts)
    x = np.ones((1, 4, 4, 8), np.float32)
    # five maps between the convolutions; the gradients lie where maps have died, but for one
    assert plan_of(model, [x]).bytes == 6 * x.nbytes


def test_in_place_is_the_last_use_and_nothing_else():
    class Net(Module):
        def __init__(self):
            super().__init__()
            self.conv, self.last = Conv2d(2, 2, 1, rng=0), Conv2d(2, 2, 1, rng=0)

        def forward(self, x):
            y = self.conv(x)
            z = layers.relu(y)
            return self.last(z + y)

    model = Net().fuse(False)
    x = np.ones((1, 2, 2, 2), np.float32)
    plan = plan_of(model, [x])
    conv, relu, add, _ = (plan.values[id(step.outputs[0])] for step in plan.steps)
    assert relu.index != conv.index, "y is read again"
    assert add.index == conv.index, "its last use; the relu's result is read backward"
    simple = Sequential(Conv2d(2, 2, 1, rng=0), ReLU(), Conv2d(2, 2, 1, rng=0)).fuse(False)
    plan = plan_of(simple, [x])
    conv, relu = (plan.values[id(step.outputs[0])] for step in plan.steps[:2])
    assert relu.index == conv.index


def test_fused_steps_stand_where_their_last_member_was():
    model, xs, _ = make("residual")
    kinds = [type(step.operation).__name__ for step in plan_of(model, xs).steps]
    assert kinds.count("NormAdd") == 2
    assert kinds.count("NormActivation") == 2
    assert kinds.count("Conv2d") == 5  # the stem is a ConvActivation
    shortcut = [step.label for step in plan_of(model, xs).steps].index(
        "blocks.1.shortcut.1 (BatchNorm2d)"
    )
    assert kinds[shortcut + 1 :] == ["NormAdd", "GlobalAvgPool2d", "Linear"]
    plain, xs, _ = make("residual_without_norm")
    kinds = [type(step.operation).__name__ for step in plan_of(plain, xs).steps]
    assert kinds.count("ConvAdd") == 2
    assert "one pass" in model.plan((None, 6, 5, 3))


def test_what_has_two_readers_is_not_fused():
    class Net(Module):
        def __init__(self):
            super().__init__()
            self.norm = BatchNorm2d(3)

        def forward(self, x):
            y = self.norm(x)
            return layers.relu(y) + y

    kinds = [type(s.operation).__name__ for s in plan_of(Net(), [np.ones((2, 2, 1, 3), "f")]).steps]
    assert kinds == ["BatchNorm2d", "ReLU", "Add"]

    class Shown(Module):
        def __init__(self):
            super().__init__()
            self.linear = Linear(2, 2)
            self.norm = BatchNorm2d(3)

        def forward(self, x):
            y = self.norm(x)
            return y, layers.relu(y)

    kinds = [
        type(s.operation).__name__ for s in plan_of(Shown(), [np.ones((2, 2, 1, 3), "f")]).steps
    ]
    assert kinds == ["BatchNorm2d", "ReLU"], "an output is seen by the user"


def test_memory_grows_to_the_largest_batch_and_stays():
    model, (x,), (dy,) = make("residual")
    running = model._running
    sizes = []
    for n in (1, 3, 2, 3):
        model.forward(x[:n])
        model.backward(dy[:n])
        (idle,) = running._idle
        sizes.append(idle._arena.size)
    assert sizes[0] * 3 == sizes[1] == sizes[2] == sizes[3]
    model.eval().forward(x)
    assert len(running._idle) == 1, "training and eval mode share the memory"
    assert copy.deepcopy(model)._runner is None

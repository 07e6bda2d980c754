"""Steps of Python in the compiled network: what they see, keep, raise and call."""

import gc
import threading
import traceback

import _pycnn
import numpy as np
import pytest
from test_network import images, residual_network

import pycnn
from pycnn import ops


def one_step(function, chunk=1000):
    """x [N, 3, 4] -> affine -> function -> affine -> [N, 2, 6]; all in the arena."""
    net = _pycnn.Network([12] * 4, [-1, 0, 16, -1], [0], [3], chunk)
    net.add_affine(0, 1, 1.0, 0.0)
    net.add_python(function, [1], [2], [(3, 4)], [(2, 6)])
    net.add_affine(2, 3, 1.0, 1.0)
    return net


def run(net, x):
    return net.run([x], [(len(x), 2, 6)])[0]


X = np.arange(60, dtype=np.float32).reshape(5, 3, 4)


@pytest.mark.parametrize("chunk", [1, 2, 3, 100])
def test_a_python_step_sees_each_chunk(chunk):
    seen = []

    def function(xs, ys):
        seen.append((xs[0].shape, ys[0].shape))
        assert not xs[0].flags.writeable
        ys[0][...] = 10 * xs[0].reshape(-1, 2, 6)

    np.testing.assert_array_equal(run(one_step(function, chunk), X), 10 * X.reshape(5, 2, 6) + 1)
    counts = [min(chunk, 5 - n) for n in range(0, 5, chunk)]
    assert seen == [((n, 3, 4), (n, 2, 6)) for n in counts]


def test_it_may_read_inputs_and_write_outputs():
    net = _pycnn.Network([12, 5, 12, 5], [-1, -1, -1, -1], [0, 1], [2, 3], 2)

    def function(xs, ys):
        assert not any(x.flags.writeable for x in xs)
        ys[1][...] = xs[0]
        ys[0][...] = xs[1] - 1

    net.add_python(function, [1, 0], [2, 3], [(5,), (12,)], [(12,), (5,)])
    other = np.ones((5, 5), np.float32)
    a, b = net.run([X, other], [(5, 12), (5, 5)])
    np.testing.assert_array_equal(a, X.reshape(5, 12) - 1)
    np.testing.assert_array_equal(b, other)
    assert X.flags.writeable


def test_its_exception_is_the_callers():
    def function(xs, ys):
        raise KeyError("mine")

    net = one_step(function)
    for _ in range(3):
        with pytest.raises(KeyError, match="mine"):
            run(net, X)


def test_it_is_not_called_for_an_empty_batch():
    def function(xs, ys):
        raise AssertionError

    assert run(one_step(function), X[:0]).shape == (0, 2, 6)


@pytest.mark.slow
def test_what_it_keeps_stays_readable():
    """Of another run's numbers at worst: the memory lives as long as the array."""
    kept = []

    def function(xs, ys):
        kept.extend(xs + ys)
        ys[0][...] = xs[0].reshape(-1, 2, 6)

    net = one_step(function)
    run(net, X)
    first = kept[0].copy()
    for _ in range(20):
        run(net, X + 1)
        gc.collect()
    np.testing.assert_array_equal(kept[0], first)
    kept[1][...] = 7

    def failing(xs, ys):
        raise RuntimeError

    try:
        run(one_step(failing), X)
    except RuntimeError as error:
        frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
        assert (frames[-1].f_locals["xs"][0] == X).all()


def test_it_may_run_operators_networks_and_use_isa(rng):
    """The same network too, inside itself: a run has an arena of its own."""
    built, outputs = residual_network(rng)
    inner = built.network(outputs, 2)
    expected = inner(*images(3))[0]
    depth = []

    def function(xs, ys):
        for name in (*pycnn.available_isas(), before):
            pycnn.use_isa(name)
            ops.relu(xs[0])
        results.append(inner(*images(3))[0])
        depth.append(1)
        if len(depth) < 3:
            np.testing.assert_array_equal(run(net, X), X.reshape(5, 2, 6) + 1)
        ys[0][...] = xs[0].reshape(-1, 2, 6)

    before, results = pycnn.isa(), []
    net = one_step(function)
    np.testing.assert_array_equal(run(net, X), X.reshape(5, 2, 6) + 1)
    assert len(results) == 3
    for result in results:
        np.testing.assert_array_equal(result, expected)


def test_threads_take_turns_in_it():
    def function(xs, ys):
        before = xs[0].copy()
        for _ in range(100):
            threading.Event().wait(0)
        np.testing.assert_array_equal(xs[0], before)
        ys[0][...] = before.reshape(-1, 2, 6)

    net, wrong = one_step(function, 2), []

    def work(n):
        for _ in range(5):
            if not np.array_equal(run(net, X + n), X.reshape(5, 2, 6) + n + 1):
                wrong.append(n)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []

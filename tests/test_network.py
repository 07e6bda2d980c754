"""The compiled network: steps against float64, memory shared in place, chunks, threads, forks."""

import os
import threading

import _pycnn
import numpy as np
import pytest
import reference
from network_builder import Built

import pycnn
from pycnn import ops
from pycnn.ops.activations import NONE, RELU, parse


def close(results, expected):
    for result, exact in zip(results, expected, strict=True):
        assert result.dtype == np.float32
        np.testing.assert_allclose(result, exact, rtol=0, atol=3e-5 * np.abs(exact).max(initial=1))


def he(rng, *shape):
    fan_in = np.prod(shape[:-1])
    return rng.standard_normal(shape, dtype=np.float32) * np.float32((2 / fan_in) ** 0.5)


def vector(rng, n):
    return rng.standard_normal(n, dtype=np.float32)


def norm_vectors(rng, n):
    return [vector(rng, n), vector(rng, n), vector(rng, n), 0.5 + rng.random(n, np.float32)]


def check(built, outputs, *arrays, chunks=(1, 2, 3, 100)):
    """Right, and the same bits however the batch is cut."""
    expected = built.expected(outputs, *arrays)
    results = [built.network(outputs, chunk)(*arrays) for chunk in chunks]
    close(results[0], expected)
    for other in results[1:]:
        for result, same in zip(other, results[0], strict=True):
            np.testing.assert_array_equal(result, same)
    return results[0]


CONVS = {  # N H W C -> weight, geometry: each algorithm, and sizes of no whole vector
    "winograd_4": ((14, 11, 32), (3, 3, 32, 33), {}),
    "winograd_2": ((6, 5, 48), (3, 3, 48, 64), {}),
    "direct": ((9, 7, 5), (3, 3, 5, 19), {"stride": 2}),
    "pointwise": ((5, 6, 24), (1, 1, 24, 40), {}),
    "first": ((12, 9, 1), (5, 5, 1, 16), {}),
    "depthwise": ((8, 9, 20), (3, 3, 1, 20), {"groups": 20}),
    "depthwise_any": ((8, 9, 20), (2, 4, 1, 20), {"groups": 20, "padding": "valid"}),
    "naive_groups": ((8, 5, 6), (3, 3, 3, 4), {"groups": 2}),
    "groups": ((8, 5, 32), (3, 3, 16, 24), {"groups": 2, "padding": ((0, 2), (1, 0))}),
}


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("name", CONVS)
def test_convolutions(isa, num_threads, rng, name, relu):
    image, weight, geometry = CONVS[name]
    w, b = he(rng, *weight), vector(rng, weight[-1])
    x = rng.standard_normal((4, *image), dtype=np.float32)
    built = Built([image])
    y = built.conv2d(0, w, b, relu=relu, **geometry)
    z = built.conv2d(0, w, None, **geometry)
    pooled = [built.conv2d(0, w, b, relu=relu, pool=p, **geometry) for p in ("same", "valid")]
    check(built, [y, z, *pooled], x)


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("name", CONVS)
def test_a_residual_is_added_where_it_lies(isa, num_threads, rng, name, in_place, relu):
    """y lies over the residual, or apart; the last bits do not depend on it."""
    image, weight, geometry = CONVS[name]
    w, b = he(rng, *weight), vector(rng, weight[-1])
    built = Built([image])
    first = built.conv2d(0, w, None, **geometry)
    y = built.conv2d(0, w, b, relu=relu, residual=first, at=first if in_place else None, **geometry)
    end = built.elementwise("copy", [y], lambda v: v)
    x = rng.standard_normal((5, *image), dtype=np.float32)
    (result,) = check(built, [end], x)
    (plain,) = built.network([first, y] if not in_place else [end])(x)[-1:]
    np.testing.assert_array_equal(result, plain)


def small(rng):
    x = rng.standard_normal((5, 7, 5, 19), dtype=np.float32)
    x[2, 3] = 0
    x[0, 0, 0] = -0.0
    return x, Built([x.shape[1:]])


def test_pools_and_linear(isa, num_threads, rng):
    x, built = small(rng)
    pools = [
        built.pool("max", 0, 2),
        built.pool("max", 0, (3, 2), stride=1, padding=(1, 0)),
        built.pool("avg", 0, 3, stride=2, padding=1),
        built.pool("avg", 0, 3, stride=2, padding=1, count_include_pad=True),
        built.pool("avg", 0, (7, 5)),
    ]
    w, b = he(rng, 7 * 5 * 19, 10), vector(rng, 10)
    ends = [
        built.linear(0, w, b),
        built.linear(0, w, None, relu=True),
        built.linear(0, w[:, :1].copy(), b[:1]),
    ]
    check(built, pools + ends, x)


@pytest.mark.parametrize("relu", [False, True])
def test_linear_has_the_bits_of_one_image_in_any_batch(isa, rng, relu):
    """100 rows at once would be added in 16 lanes by `ops.matmul`."""
    x, built = rng.standard_normal((100, 640), dtype=np.float32), Built([(640,)])
    y = built.linear(0, he(rng, 640, 10), vector(rng, 10), relu)
    check(built, [y], x, chunks=(1, 7, 39, 40, 100))


SLOPE = np.linspace(-0.5, 0.5, 19, dtype=np.float32)
ELEMENTWISE = {
    "activation": (1, lambda x: np.clip(x, 0, 6), (parse("relu6", "test"),)),
    "prelu": (1, lambda x: np.where(x < 0, x * SLOPE, x), (SLOPE,)),
    "softmax": (1, reference.softmax, (19,)),
    "add": (2, lambda a, b: a + b, (NONE,)),
    "add_then_relu": (2, lambda a, b: np.maximum(a + b, 0), (RELU,)),
    "subtract": (2, lambda a, b: a - b, ()),
    "multiply": (2, lambda a, b: a * b, ()),
    "affine": (1, lambda x: x * np.float32(-1.5) + np.float32(0.25), (-1.5, 0.25)),
    "copy": (1, lambda x: x, ()),
}


@pytest.mark.parametrize("place", [None, 0, 1])
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_elementwise_steps_apart_and_over_each_operand(isa, num_threads, rng, name, place):
    operands, compute, options = ELEMENTWISE[name]
    if place is not None and (place >= operands or name in ("copy", "softmax")):
        return
    x, built = small(rng)
    values = [built.elementwise("affine", [0], lambda v: 2.0 * v + 1.0, 2.0, 1.0)]
    values.append(built.elementwise("activation", [0], lambda v: np.maximum(v, 0), RELU))
    values = values[:operands]
    at = None if place is None else values[place]
    y = built.elementwise(name.partition("_")[0], values, compute, *options, at=at)
    z = built.elementwise("affine", [y], lambda v: v * 3.0, 3.0, 0.0)
    check(built, [z], x)


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("place", [None, "x", "residual"])
@pytest.mark.parametrize("C", [19, 4, 32])
def test_batch_norm_apart_and_in_place(isa, num_threads, rng, C, place, relu):
    x, built = rng.standard_normal((5, 6, 3, C), dtype=np.float32), Built([(6, 3, C)])
    inner = built.elementwise("affine", [0], lambda v: 2.0 * v + 1.0, 2.0, 1.0)
    residual = built.elementwise("affine", [0], lambda v: v - 1.0, 1.0, -1.0)
    at = {"x": inner, "residual": residual, None: None}[place]
    vectors = norm_vectors(rng, C)
    y = built.batch_norm(inner, vectors, relu=relu, residual=residual, at=at)
    z = built.batch_norm(y, vectors, relu=relu, at=y)
    check(built, [built.elementwise("copy", [z], lambda v: v)], x)


def test_concat_of_two_inputs(isa, num_threads, rng):
    a, b = (rng.standard_normal((5, 4, 3, C), dtype=np.float32) for C in (7, 17))
    built = Built([a.shape[1:], b.shape[1:]])
    mixed = built.concat([1, 0, 1])
    (result,) = check(built, [mixed], a, b)
    np.testing.assert_array_equal(result, np.concatenate([b, a, b], axis=-1))


def residual_network(rng, C=32):
    """Two inputs, two residual blocks, a branch that is joined again, two outputs."""
    built = Built([(12, 10, 3), (12, 10, C)])
    stem = built.conv2d(0, he(rng, 3, 3, 3, C), vector(rng, C), relu=True)
    met = built.elementwise("add", [stem, 1], lambda a, b: a + b, NONE, at=stem)
    a = built.conv2d(met, he(rng, 3, 3, C, C), vector(rng, C), relu=True)
    a = built.conv2d(a, he(rng, 3, 3, C, C), vector(rng, C), relu=True, residual=met, at=met)
    b = built.batch_norm(a, norm_vectors(rng, C), relu=True)
    both = built.concat([a, b])
    down = built.conv2d(both, he(rng, 1, 1, 2 * C, 48), None, stride=2)
    pooled = built.pool("avg", down, built.shapes[down][:2])
    logits = built.linear(pooled, he(rng, 48, 10), vector(rng, 10))
    return built, [logits, down]


def images(n, seed=0, C=32):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal((n, 12, 10, c), dtype=np.float32) for c in (3, C)]


def test_a_residual_network(isa, num_threads, rng):
    built, outputs = residual_network(rng)
    check(built, outputs, *images(7))


def test_the_same_bits_on_every_isa_with_fma_and_any_thread_count(rng):
    built, outputs = residual_network(rng)
    net = built.network(outputs, 4)
    before, found = pycnn.isa(), {}
    try:
        for name in pycnn.available_isas():
            pycnn.use_isa(name)  # filters are transformed again
            for threads in (1, 2, 3):
                with pycnn.num_threads(threads):
                    found[name, threads] = net(*images(9))
    finally:
        pycnn.use_isa(before)
    for (name, _), results in found.items():
        like = found[name if name == "baseline" else before, 1]
        for result, same in zip(results, like, strict=True):
            np.testing.assert_array_equal(result, same)


def test_an_empty_batch_gives_empty_outputs(rng):
    built, outputs = residual_network(rng)
    logits, down = built.network(outputs)(*images(0))
    assert logits.shape == (0, 10)
    assert down.shape == (0, 6, 5, 48)


def test_it_follows_the_precision(rng):
    built, outputs = residual_network(rng)
    net = built.network(outputs)
    fast = net(*images(3))[0]
    before = pycnn.get_precision()
    pycnn.set_precision("exact")
    try:
        exact = net(*images(3))[0]
    finally:
        pycnn.set_precision(before)
    assert not np.array_equal(fast, exact)
    close([exact], built.expected(outputs, *images(3))[:1])


def test_weights_are_copied_and_inputs_stay(rng):
    x, w = rng.standard_normal((3, 6, 6, 16), dtype=np.float32), he(rng, 3, 3, 16, 16)
    built = Built([(6, 6, 16)])
    y = built.conv2d(0, w, None)
    net = built.network([y])
    (before,), original = net(x), x.copy()
    w[...] = 0
    (again,) = net(x)
    np.testing.assert_array_equal(again, before)
    np.testing.assert_array_equal(x, original)
    assert not np.shares_memory(again, before)


def test_several_threads_may_run_one_network(rng):
    built, outputs = residual_network(rng)
    net = built.network(outputs, 2)
    expected = [net(*images(n + 1, n)) for n in range(4)]
    wrong = []

    def run(n):
        for _ in range(15):
            for result, same in zip(net(*images(n + 1, n)), expected[n], strict=True):
                if not np.array_equal(result, same):
                    wrong.append(n)

    threads = [threading.Thread(target=run, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_it_runs_in_a_child_that_was_forked_while_others_ran(rng):
    built, outputs = residual_network(rng)
    net = built.network(outputs, 2)
    expected = net(*images(3))[0]
    stop = threading.Event()

    def run():
        while not stop.is_set():
            net(*images(3))

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(5):
            child = os.fork()
            if child == 0:
                os._exit(0 if np.array_equal(net(*images(3))[0], expected) else 1)
            assert os.waitpid(child, 0)[1] == 0
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_bytes_per_image_is_what_the_offsets_span():
    net = _pycnn.Network([100, 10, 40, 7], [-1, 64, 0, -1], [0], [3], 1)
    assert net.bytes_per_image == (64 + 16) * 4
    assert _pycnn.Network([4, 4], [-1, -1], [0], [1], 1).bytes_per_image == 0


def test_each_float_of_an_image_is_in_reach_of_every_chunk(rng):
    """Values of odd sizes beside each other: what one step writes ends before the next begins."""
    x, built = rng.standard_normal((11, 3, 5, 7), dtype=np.float32), Built([(3, 5, 7)])
    values = [
        built.elementwise("affine", [0], lambda v, k=k: v + k, 1.0, float(k)) for k in range(5)
    ]
    ends = [built.elementwise("copy", [v], lambda v: v) for v in values]
    check(built, ends, x, chunks=(1, 2, 4, 11))
    for k, result in enumerate(built.network(ends, 4)(x)):
        np.testing.assert_array_equal(result, ops.affine(x, 1.0, k))

"""`ops.conv2d_norm`: a 1 x 1 convolution and batch normalisation as one operator."""

import numpy as np
import pytest

import pycnn
from pycnn import ops
from pycnn.graph import fuse
from pycnn.layers import Add, BatchNorm2d, Conv2d, Graph, Input, ReLU, Sequential

# (N, H, W, C, OC); whether it is fused depends on rows, C and OC.
SHAPES = {
    "fused": (4, 24, 25, 12, 96),
    "ragged panels": (4, 27, 29, 20, 41),
    "less than a vector": (2, 32, 32, 9, 12),
    "a narrow result": (2, 32, 32, 16, 8),
    "one by one": (2, 9, 7, 70, 80),
    "few channels": (2, 9, 9, 3, 20),
}
EPS = np.finfo(np.float32).eps


def arrays(rng, N, H, W, C, OC):
    def normal(*shape):
        return rng.standard_normal(shape, dtype=np.float32)

    x, weight = normal(N, H, W, C) + np.float32(0.5), normal(1, 1, C, OC)
    return x, weight, normal(OC), normal(OC), normal(OC), normal(N, H, W, OC)


def one_by_one(x, weight, bias, gamma, beta, dy, **options):
    """The operators in turn: forward's four, dx, dweight, dgamma, dbeta, and dz."""
    z = ops.conv2d(x, weight, bias)
    y, mean, var = ops.batch_norm(z, gamma, beta, **options)
    options.pop("running_mean", None), options.pop("running_var", None)
    dz, dgamma, dbeta = ops.batch_norm_backward(dy, z, gamma, beta, mean, var, **options)
    dweight = ops.conv2d_backward_weight(x, dz, weight.shape)
    dx = ops.conv2d_backward_input(dz, weight, x.shape)
    return (y, z, mean, var), (dx, dweight, dgamma, dbeta), dz


def fused(x, weight, bias, gamma, beta, dy, **options):
    forward = ops.conv2d_norm(x, weight, gamma, beta, bias=bias, **options)
    options.pop("running_mean", None), options.pop("running_var", None)
    saved = forward.z, x, weight, gamma, beta, forward.mean, forward.var
    return forward, ops.conv2d_norm_backward(dy, *saved, **options)


def same_dweight(found, expected, x, dz):
    """Both add the same products of each element, so each is within gamma_n of the true sum."""
    rows = x.size // x.shape[-1]
    a, b = (np.abs(m).reshape(rows, -1).astype(np.float64) for m in (x, dz))
    bound = 2 * rows * EPS * (a.T @ b)
    assert np.all(np.abs(found[0, 0] - expected[0, 0]) <= bound)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("activation", [None, "relu"])
def test_it_is_the_operators_in_turn_bit_for_bit(isa, num_threads, rng, shape, activation):
    data = arrays(rng, *SHAPES[shape])
    running = [[np.zeros_like(data[2]), np.ones_like(data[2])] for _ in range(2)]
    results = []
    for run, (mean, var) in zip((one_by_one, fused), running, strict=True):
        results.append(run(*data, activation=activation, running_mean=mean, running_var=var))
    (expected, gradients, dz), (found, ours) = results
    for a, b in zip((*found, *running[1]), (*expected, *running[0]), strict=True):
        np.testing.assert_array_equal(a, b)
    for name in ("dx", "dgamma", "dbeta"):
        i = ours._fields.index(name)
        np.testing.assert_array_equal(ours[i], gradients[i], err_msg=name)
    same_dweight(ours.dweight, gradients[1], data[0], dz)
    z, mean, var = found[1:]
    without = ops.conv2d_norm_backward(
        data[-1], z, *data[:2], *data[3:5], mean, var, activation=activation, input_gradient=False
    )
    assert without.dx is None
    np.testing.assert_array_equal(without.dweight, ours.dweight)


def test_a_map_that_is_written_past_the_caches(small_caches, rng):
    """From half of L3 on; 96 channels and 42 rows a chunk leave a smaller chunk at the end."""
    data = arrays(rng, 8, 14, 13, 16, 96)
    (expected, gradients, dz), (found, ours) = (run(*data) for run in (one_by_one, fused))
    assert found.z.size >= 2**17
    for a, b in zip((*found, ours.dx), (*expected, gradients[0]), strict=True):
        np.testing.assert_array_equal(a, b)
    same_dweight(ours.dweight, gradients[1], data[0], dz)


def test_threads_and_vectors_do_not_change_the_bits(rng):
    data = arrays(rng, *SHAPES["ragged panels"])
    chosen, seen = pycnn.isa(), []
    try:
        for name in {"avx2", "avx512"} & set(pycnn.available_isas()):
            pycnn.use_isa(name)
            for threads in (1, 2, 3, 8):
                with pycnn.num_threads(threads):
                    forward, backward = fused(*data, activation="relu")
                seen.append([a.tobytes() for a in (*forward, *backward)])
    finally:
        pycnn.use_isa(chosen)
    assert all(one == seen[0] for one in seen)


def test_nan_shows_where_it_shows_in_turn(rng):
    data = arrays(rng, *SHAPES["fused"])
    data[-1][1, 2, 3, 4] = np.nan
    (_, gradients, _), (_, ours) = (run(*data, activation="relu") for run in (one_by_one, fused))
    for i in (0, 1, 2, 3):
        np.testing.assert_array_equal(np.isnan(ours[i]), np.isnan(gradients[i]))
    data[0][0, 0, 0, 0] = np.nan
    assert np.isnan(fused(*data, activation="relu")[0].y).all()


def test_an_empty_batch_and_one_pixel(rng):
    x, weight, _, gamma, beta, dy = arrays(rng, 1, 1, 1, 3, 4)
    with pytest.raises(ValueError, match=r"x has shape \(1, 1, 1, 3\), one pixel"):
        ops.conv2d_norm(x, weight, gamma, beta)
    forward, backward = fused(x[:0], weight, None, gamma, beta, dy[:0])
    assert forward.y.shape == (0, 1, 1, 4)
    assert not np.concatenate([forward.mean, forward.var, *map(np.ravel, backward[1:])]).any()


def test_wrong_arguments_are_sentences(rng):
    x, weight, bias, gamma, beta, _ = arrays(rng, 2, 3, 3, 3, 4)
    call = ops.conv2d_norm
    with pytest.raises(ValueError, match=r"weight has shape \(3, 3, 3, 4\); expected \(1, 1, 3"):
        call(x, np.ones((3, 3, 3, 4), np.float32), gamma, beta)
    with pytest.raises(TypeError, match=r"x is float64; expected float32, the only type"):
        call(x.astype(np.float64), weight, gamma, beta)
    with pytest.raises(ValueError, match=r"gamma has shape \(3,\)"):
        call(x, weight, gamma[:3], beta)
    with pytest.raises(ValueError, match="activation"):
        call(x, weight, gamma, beta, activation="Tanh")
    with pytest.raises(TypeError, match="belong together"):
        call(x, weight, gamma, beta, running_mean=bias)
    with pytest.raises(TypeError, match="expected four arrays"):
        call(x, weight, gamma, beta, out=(bias,))
    y, z = np.empty((2, 2, 3, 3, 4), np.float32)
    with pytest.raises(ValueError, match=r"out\[1\] \(z\) shares memory with out\[0\]"):
        call(x, weight, gamma, beta, out=(y, y, bias.copy(), bias.copy()))
    with pytest.raises(ValueError, match=r"out\[3\] \(var\) shares memory with bias"):
        call(x, weight, gamma, beta, bias=bias, out=(y, z, bias.copy(), bias))


def kinds(model, mode="training"):
    return [type(step.operation).__name__ for step in fuse.fused(model.program(None), mode)]


def test_what_becomes_one_operator():
    conv, norm = Conv2d(16, 32, 1), BatchNorm2d(32)
    assert kinds(Sequential(conv, norm, ReLU())) == ["PointwiseNorm"]
    assert kinds(Sequential(conv, norm)) == ["PointwiseNorm"]
    for options in ({"stride": 2}, {"padding": 1}, {"groups": 2}, {"algorithm": "naive"}):
        other = Sequential(Conv2d(16, 32, 1, **options), norm, ReLU())
        assert kinds(other) == ["Conv2d", "NormActivation"]
    assert kinds(Sequential(Conv2d(16, 32, 3), norm, ReLU())) == ["Conv2d", "NormActivation"]
    x = Input((8, 8, 16))
    added = Add()(BatchNorm2d(16)(Conv2d(16, 16, 1)(x)), x)
    residual = Graph(x, ReLU()(added))  # added to in the pass of the norm
    assert kinds(residual) == ["Conv2d", "NormAdd"]


@pytest.mark.parametrize("bias", [True, False])
def test_the_layers_learn_the_same(rng, bias):
    model = Sequential(
        Conv2d(16, 40, 1, bias=bias, rng=1), BatchNorm2d(40), ReLU(),
        Conv2d(40, 16, 1, bias=bias, rng=2), BatchNorm2d(16),
    )  # fmt: skip
    model[1].weight.data[...] = rng.standard_normal(40, dtype=np.float32)
    x = rng.standard_normal((4, 24, 24, 16), dtype=np.float32)
    results = []
    for on in (True, False):
        model.fuse(on).zero_grad()
        model[1].running_mean[...] = 0
        y = model.forward(x)
        dx = model.backward(x)
        grads = {name: p.grad.copy() for name, p in model.named_parameters()}
        results.append((y, dx, model[1].running_mean.copy(), grads))
    for ours, plain in zip(results[0][:3], results[1][:3], strict=True):
        np.testing.assert_array_equal(ours, plain)
    for name, plain in results[1][3].items():
        ours = results[0][3][name]
        if bias and name in ("0.bias", "3.bias"):  # the mean takes a bias away
            assert not ours.any()
        else:
            np.testing.assert_allclose(ours, plain, rtol=0, atol=1e-5 * np.abs(plain).max())
    model.fuse(True)
    with pytest.raises(ValueError, match="one number a channel"):
        model.forward(x[:1, :1, :1])

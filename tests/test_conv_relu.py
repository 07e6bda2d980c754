"""`ops.conv2d_relu_backward`: all gradients of a convolution with relu in one call."""

import numpy as np
import pytest

import pycnn
from pycnn import layers, ops

GEOMETRIES = {
    "same": {"padding": "same"},
    "stride": {"stride": 2, "padding": 1},
    "dilation": {"dilation": 2, "padding": "same"},
    "groups": {"groups": 2, "padding": "same"},
}


def arrays(rng, C=18, OC=20, size=9, groups=1, k=3, **options):
    x = rng.standard_normal((3, size, size, C), np.float32)
    weight = rng.standard_normal((k, k, C // groups, OC), np.float32)
    bias = rng.standard_normal(OC).astype(np.float32)
    y = ops.conv2d(x, weight, bias, activation="relu", groups=groups, **options)
    return rng.standard_normal(y.shape, np.float32), y, x, weight


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("algorithm", ["auto", "direct", "naive"])
def test_it_is_the_four_steps_bit_for_bit(isa, num_threads, rng, geometry, algorithm):
    options = GEOMETRIES[geometry]
    dy, y, x, weight = arrays(rng, **options)
    named = {**options, "algorithm": algorithm}
    g = ops.relu_backward(dy, y)
    expected = (
        ops.conv2d_backward_weight(x, g, weight.shape, **named),
        ops.conv2d_backward_bias(g),
        ops.conv2d_backward_input(g, weight, x.shape, **named),
    )
    out = tuple(np.full_like(array, np.nan) for array in expected)
    result = ops.conv2d_relu_backward(dy, y, x, weight, **named, out=out)
    for found, array, given in zip(result, expected, out, strict=True):
        assert found is given
        np.testing.assert_array_equal(found, array)
    first = ops.conv2d_relu_backward(dy, y, x, weight, **named, input_gradient=False)
    assert first.dx is None
    np.testing.assert_array_equal(first.dweight, expected[0])
    np.testing.assert_array_equal(first.dbias, expected[1])
    assert np.count_nonzero(g) < 0.8 * g.size  # relu has masked something


def test_an_empty_batch(rng):
    dy, y, x, weight = (array[:0] if array.ndim and i < 3 else array
                        for i, array in enumerate(arrays(rng, padding="same")))  # fmt: skip
    result = ops.conv2d_relu_backward(dy, y, x, weight, padding="same")
    assert not result.dweight.any()
    assert not result.dbias.any()
    assert result.dx.shape == x.shape


def test_wrong_arguments_are_sentences(rng):
    dy, y, x, weight = arrays(rng, padding="same")
    call = ops.conv2d_relu_backward
    with pytest.raises(ValueError, match=r"conv2d_relu_backward: y has shape .* expected"):
        call(dy, y[:, 1:], x, weight, padding="same")
    with pytest.raises(TypeError, match="conv2d_relu_backward: dy is float64; expected float32"):
        call(dy.astype(float), y, x, weight, padding="same")
    with pytest.raises(TypeError, match="expected a triple"):
        call(dy, y, x, weight, padding="same", out=(dy, y))
    with pytest.raises(ValueError, match="conv2d_relu_backward: algorithm is 'fft'"):
        call(dy, y, x, weight, padding="same", algorithm="fft")
    with pytest.raises(ValueError, match='conv2d_relu_backward: algorithm="winograd" computes 3'):
        call(*arrays(rng, k=5, padding="same"), padding="same", algorithm="winograd")
    good = call(dy, y, x, weight, padding="same")
    with pytest.raises(ValueError, match="share"):
        call(dy, y, x, weight, padding="same", out=(good.dweight, good.dbias, x))


def test_the_bits_do_not_depend_on_threads_or_isa(rng):
    found = set()
    given = arrays(rng, C=32, OC=32, size=20, padding="same")
    for isa in pycnn.available_isas():
        if isa == "baseline":
            continue
        before = pycnn.isa()
        pycnn.use_isa(isa)
        for threads in (1, 2, 3, 8):
            with pycnn.num_threads(threads):
                result = ops.conv2d_relu_backward(*given, padding="same")
            found.add(b"".join(array.tobytes() for array in result))
        pycnn.use_isa(before)
    assert len(found) <= 1


def networks():
    """The same two convolutions with relu, as blocks and layer by layer."""
    models = []
    for fuse in (True, False):
        rng = np.random.default_rng(4)
        model = layers.Sequential(
            layers.Conv2d(3, 20, 3, padding="same", rng=rng),
            layers.ReLU(),
            layers.Conv2d(20, 8, 3, stride=2, bias=False, rng=rng),
            layers.ReLU(),
        )
        models.append(model.fuse(fuse))
    return models


def test_a_sequential_plans_convolution_and_relu_as_one_operator(rng):
    fused, plain = networks()
    assert fused.plan().count("Conv2d + ReLU  one operator") == 2
    assert "operator" not in plain.plan()
    x = rng.standard_normal((4, 9, 9, 3), np.float32)
    y = fused(x)
    np.testing.assert_array_equal(y, plain(x))
    dy = rng.standard_normal(y.shape, np.float32)
    np.testing.assert_array_equal(fused.backward(dy), plain.backward(dy))
    for one, other in zip(fused.parameters(), plain.parameters(), strict=True):
        np.testing.assert_array_equal(one.grad, other.grad)
    y[...] = -1  # what the user does to a result changes no later gradient
    second = fused(x)
    second_y = second.copy()
    second[...] = -1
    np.testing.assert_array_equal(plain(x), second_y)
    np.testing.assert_array_equal(fused.backward(dy), plain.backward(dy))
    compiled = fused.compile_inference((None, 9, 9, 3))
    np.testing.assert_allclose(compiled(x), fused.eval()(x), rtol=1e-5, atol=1e-6)

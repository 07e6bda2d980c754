"""Winograd cut into parts: wide layers, many tiles, packed weights, and the choice of "auto"."""

import numpy as np
import pytest

import pycnn
from pycnn import layers, ops


def integers(rng, *shape):
    return rng.integers(-2, 3, shape).astype(np.float32)


# x, OC. Tiles of 2: 980 of them, by tiles; forward and dx in two parts and two chunks; dweight in
# whole blocks of 64 x 64, 3 down and 6 across, and in shared ones, each in chunks.
CUT = {
    "many_tiles": ((20, 13, 14, 18), 33),
    "two_parts": ((7, 14, 13, 300), 520),
    "whole_blocks": ((6, 13, 14, 130), 330),
    "shared_blocks": ((25, 13, 14, 70), 40),
}


@pytest.mark.parametrize("case", CUT)
@pytest.mark.usefixtures("exact_precision")
def test_parts_of_a_wide_layer_are_those_of_direct_convolution(isa, num_threads, case):
    shape, OC = CUT[case]
    rng = np.random.default_rng(5)
    x, weight = integers(rng, *shape), integers(rng, 3, 3, shape[3], OC)
    dy, bias = integers(rng, *shape[:3], OC), integers(rng, OC)
    got, expected = (
        (
            ops.conv2d(x, weight, bias, padding="same", algorithm=name),
            ops.conv2d_backward_input(dy, weight, x.shape, padding="same", algorithm=name),
            ops.conv2d_backward_weight(x, dy, weight.shape, padding="same", algorithm=name),
        )
        for name in ("winograd", "direct")
    )
    for a, b, what in zip(got, expected, ("y", "dx", "dweight"), strict=True):
        np.testing.assert_array_equal(a, b, err_msg=what)


def test_an_image_has_the_same_bits_alone_and_among_others(isa, num_threads, rng):
    """20 images are 980 tiles of 4, which threads own; the 49 of one are cut into cells."""
    x = rng.standard_normal((20, 27, 26, 20), np.float32)
    weight = rng.standard_normal((3, 3, 20, 34), np.float32)
    how = {"padding": "same", "algorithm": "winograd"}
    together = ops.conv2d(x, weight, **how)
    for n in (0, 19):
        np.testing.assert_array_equal(together[n], ops.conv2d(x[n : n + 1], weight, **how)[0])


@pytest.mark.parametrize(("C", "OC"), [(150, 600), (40, 50)])
def test_packed_parts_are_those_of_a_call(isa, rng, C, OC):
    """The transformed weights of a compiled network are cut as those that a call makes."""
    layer = layers.Conv2d(C, OC, 3, padding="same")
    model = layers.Sequential(layer)
    x = rng.standard_normal((7, 14, 13, C), np.float32)
    y = ops.conv2d(x, layer.weight.data, layer.bias.data, padding="same", algorithm="winograd")
    np.testing.assert_array_equal(model.compile_inference((None, 14, 13, C))(x), y)


# size, channels, images: forward, dx, dweight. What was measured to be faster (docs/kernels.md).
CHOSEN = {
    (7, 512, 1): ("direct", "direct", "winograd"),
    (7, 512, 16): ("winograd",) * 3,
    (14, 256, 1): ("winograd",) * 3,
    (14, 512, 1): ("winograd",) * 3,
    (14, 512, 16): ("winograd",) * 3,
    (28, 128, 1): ("winograd",) * 3,
    (28, 512, 1): ("winograd",) * 3,
}


@pytest.mark.parametrize("case", CHOSEN, ids=str)
def test_auto_takes_what_was_faster(case):
    size, C, N = case
    explained = pycnn.explain_conv2d((N, size, size, C), (3, 3, C, C), padding=1)
    chosen = (explained.forward, explained.backward_input, explained.backward_weight)
    assert chosen == CHOSEN[case]

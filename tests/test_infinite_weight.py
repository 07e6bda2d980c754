"""Zero times infinity: what is padded must depend on the shape, not on how threads cut the rows."""

import numpy as np
import pytest

import pycnn
from pycnn import ops

# (N, H, W, C), kernel, OC, options: small images whose share of a thread decided what is padded.
SHAPES = {
    "7x7": ((16, 7, 7, 16), 3, 32, {}),
    "7x7_wide": ((3, 7, 7, 64), 3, 96, {}),
    "14x14": ((9, 14, 14, 32), 3, 64, {}),
    "one_image": ((1, 40, 33, 32), 3, 48, {}),
    "stride_2": ((16, 15, 14, 32), 3, 48, {"stride": 2}),
    "5x5_stride_3": ((24, 13, 13, 24), 5, 32, {"stride": 3}),
    "groups": ((12, 9, 9, 32), 3, 64, {"groups": 2}),
    "depthwise": ((40, 9, 9, 64), 3, 64, {"groups": 64}),
    "dilation": ((12, 12, 9, 32), 3, 32, {"dilation": 2}),
    "few_channels": ((16, 14, 14, 3), 3, 32, {}),
}
THREADS = (1, 2, 3, 8, 16)


def bits_of(call):
    found = []
    for threads in THREADS:
        with pycnn.num_threads(threads):
            found.append([np.asarray(a).tobytes() for a in call()])
    return found


@pytest.mark.parametrize("algorithm", ["direct", "auto"])
@pytest.mark.parametrize("name", SHAPES)
def test_an_infinite_weight_shows_in_the_same_places(isa, rng, name, algorithm):
    (N, H, W, C), K, OC, options = SHAPES[name]
    weight = rng.standard_normal((K, K, C // options.get("groups", 1), OC), np.float32)
    weight[0, 0, 0, ::3] = np.inf
    weight[-1, K // 2, 0, 1::3] = -np.inf
    x = rng.standard_normal((N, H, W, C), np.float32)
    options = {**options, "padding": "same", "algorithm": algorithm}
    dy = rng.standard_normal(ops.conv2d(x, weight, **options).shape, np.float32)
    dy[0, 0, 0, 0] = np.inf

    def call():
        y = ops.conv2d(x, weight, **options)
        dx = ops.conv2d_backward_input(dy, weight, x.shape, **options)
        return y, dx, ops.conv2d_backward_weight(x, dy, weight.shape, **options)

    first, *others = bits_of(call)
    assert all(found == first for found in others)


@pytest.mark.parametrize("relu", [False, True])
def test_a_pool_behind_it_changes_nothing(isa, rng, relu):
    """conv_pool computes the map in chunks that a thread cuts off its own images."""
    x = rng.standard_normal((8, 7, 7, 64), np.float32)
    weight = rng.standard_normal((3, 3, 64, 128), np.float32)
    weight[0, 0, 0, ::3] = np.inf
    options = {"padding": "same", "relu": relu, "pool_padding": "same", "return_where": True}
    options["algorithm"] = "direct"
    first, *others = bits_of(lambda: ops.conv_pool(x, weight, **options))
    assert all(found == first for found in others)

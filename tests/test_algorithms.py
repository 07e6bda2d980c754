"""The registry of convolution algorithms: what fits, what "auto" takes, what is refused."""

import re

import _pycnn
import numpy as np
import pytest
from test_conv2d import CASES, DIRECTIONS

from pycnn import ops
from pycnn.ops import arrays
from pycnn.ops.activations import NONE


def test_python_and_the_registry_know_the_same_algorithms():
    x, w = np.ones((1, 4, 4, 1), np.float32), np.ones((3, 3, 1, 1), np.float32)
    y = np.empty((1, 2, 2, 1), np.float32)
    shape = _pycnn.Conv2dShape(x.shape, w.shape, (1, 1), (0, 0, 0, 0), (1, 1), 1, False)
    with pytest.raises(ValueError, match="expected one of") as caught:
        _pycnn.conv2d_forward(y, x, w, None, shape, NONE, "fft")
    assert tuple(re.findall(r'"(\w+)"', str(caught.value))[1:]) == arrays.ALGORITHMS


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_auto_takes_the_least_cost_of_what_fits_and_says_so(direction):
    for (N, H, W, C), (KH, KW, OC), options in CASES.values():
        groups = options.get("groups", 1)
        explained = ops.explain_conv2d((N, H, W, C), (KH, KW, C // groups, OC), **options)
        costs = explained.costs[DIRECTIONS.index(direction)]
        chosen = getattr(explained, direction)
        assert costs[chosen] == 1.0 == min(costs.values())
        assert {"direct", "im2col", "naive"} <= set(costs)
        assert ("depthwise" in costs) == (groups > 1 and groups == C == OC)
        few = C <= 8 if direction == "backward_input" else C <= 4 and KH * KW * C <= 49
        assert ("few_channels" in costs) == (groups == 1 and few)
        line = str(explained).splitlines()[1 + DIRECTIONS.index(direction)]
        assert all(name in line for name in costs)


def test_a_shape_refuses_a_direction_that_does_not_exist():
    shape = _pycnn.Conv2dShape((1, 4, 4, 1), (3, 3, 1, 1), (1, 1), None, (1, 1), 1, False)
    assert shape.choice("backward_weight")[0] == "few_channels"
    with pytest.raises(ValueError, match=r"direction is \"backwards\"; expected \"forward\""):
        shape.choice("backwards")


@pytest.mark.parametrize(
    ("algorithm", "x_shape", "w_shape", "groups"),
    [("depthwise", (1, 4, 4, 2), (3, 3, 1, 4), 2), ("few_channels", (1, 4, 4, 5), (3, 3, 5, 4), 1)],
)
def test_a_named_algorithm_refuses_what_it_does_not_compute(algorithm, x_shape, w_shape, groups):
    x, w = np.ones(x_shape, np.float32), np.ones(w_shape, np.float32)
    with pytest.raises(ValueError, match=rf"{algorithm}.* computes .*groups = {groups}; expected"):
        ops.conv2d(x, w, groups=groups, algorithm=algorithm)

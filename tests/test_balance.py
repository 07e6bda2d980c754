"""How evenly threads share a convolution: every layer of three networks, from the cut that runs."""

import _pycnn
import numpy as np
import pytest

import pycnn
from pycnn import ops

DIRECTIONS = ("forward", "backward_input", "backward_weight")


def resnet(blocks, bottleneck):
    """(size, C, OC, kernel, stride, groups) of every convolution, 224 x 224."""
    layers, size, C = [(224, 3, 64, 7, 2, 1)], 56, 64
    for stage, count in enumerate(blocks):
        width = 64 * 2**stage
        for block in range(count):
            stride = 2 if stage and not block else 1
            out = size // stride
            if bottleneck:
                layers += [(size, C, width, 1, 1, 1), (size, width, width, 3, stride, 1)]
                layers += [(out, width, 4 * width, 1, 1, 1)]
            else:
                layers += [(size, C, width, 3, stride, 1), (out, width, width, 3, 1, 1)]
            last = width * (4 if bottleneck else 1)
            if stride > 1 or last != C:
                layers.append((size, C, last, 1, stride, 1))
            size, C = out, last
    return layers


def mobilenet_v2():
    layers, size, C = [(224, 3, 32, 3, 2, 1)], 112, 32
    table = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2))
    table += ((6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
    for expansion, OC, count, first_stride in table:
        for block in range(count):
            stride, wide = (1 if block else first_stride), C * expansion
            if expansion > 1:
                layers.append((size, C, wide, 1, 1, 1))
            layers.append((size, wide, wide, 3, stride, wide))
            size //= stride
            layers.append((size, wide, OC, 1, 1, 1))
            C = OC
    return [*layers, (7, 320, 1280, 1, 1, 1)]


NETWORKS = {
    "resnet18": resnet((2, 2, 2, 2), False),
    "resnet50": resnet((3, 4, 6, 3), True),
    "mobilenet_v2": mobilenet_v2(),
}


def shape_of(layer, N):
    size, C, OC, kernel, stride, groups = layer
    pad = (kernel // 2,) * 4
    weight = (kernel, kernel, C // groups, OC)
    return _pycnn.Conv2dShape(
        (N, size, size, C), weight, (stride, stride), pad, (1, 1), groups, False
    )


def mean_balance(network, N, direction, threads):
    shares = [shape_of(layer, N).balance(direction, threads) for layer in NETWORKS[network]]
    assert all(0 < share <= 1 for share in shares)
    return np.mean(shares)


def test_one_thread_has_all_of_it():
    for network in NETWORKS:
        assert {mean_balance(network, N, d, 1) for N in (1, 16) for d in DIRECTIONS} == {1.0}


# Means over the layers, rounded down: what was found, so that a cut that starves threads shows.
LEAST = {
    ("resnet18", 1): {"forward": 0.94, "backward_input": 0.92, "backward_weight": 0.95},
    ("resnet50", 1): {"forward": 0.95, "backward_input": 0.95, "backward_weight": 0.95},
    ("resnet50", 16): {"forward": 0.97, "backward_input": 0.97, "backward_weight": 0.95},
    ("mobilenet_v2", 1): {"forward": 0.87, "backward_input": 0.88, "backward_weight": 0.8},
    ("mobilenet_v2", 16): {"forward": 0.97, "backward_input": 0.97, "backward_weight": 0.8},
}


@pytest.mark.parametrize(("network", "N"), LEAST, ids=str)
def test_sixteen_threads_have_equal_shares(isa, network, N):
    for direction, least in LEAST[network, N].items():
        assert mean_balance(network, N, direction, 16) >= least, direction


@pytest.mark.parametrize("layer", [(14, 32, 64, 3, 1, 1), (7, 64, 128, 3, 1, 1)], ids=str)
def test_two_threads_halve_an_image_of_the_lecture(isa, layer):
    """Of 16 tiles they had 14 and 2, the heights of register tiles."""
    assert shape_of(layer, 1).balance("forward", 2) == 1


# name: (N, H, W, C), (K, OC), stride: few rows, so threads share channels too.
SHAPES = {
    "28x28": ((1, 28, 28, 64), (3, 96), 1),
    "14x14": ((1, 14, 14, 128), (3, 200), 1),
    "7x7": ((1, 7, 7, 256), (3, 256), 1),
    "1x1": ((1, 14, 14, 512), (1, 200), 1),
    "stride_2": ((1, 27, 28, 128), (3, 160), 2),
    "two_images": ((2, 14, 13, 96), (3, 160), 1),
    "depthwise": ((1, 28, 27, 600), (3, 600), 1),
    "depthwise_stride_2": ((3, 56, 56, 200), (3, 200), 2),
}


@pytest.mark.parametrize("algorithm", ["auto", "direct"])
@pytest.mark.parametrize("name", SHAPES)
def test_the_bits_of_one_thread_on_many(isa, rng, name, algorithm):
    shape, (K, OC), stride = SHAPES[name]
    x = rng.standard_normal(shape, np.float32)
    groups = OC if name.startswith("depthwise") else 1
    weight = rng.standard_normal((K, K, shape[3] // groups, OC), np.float32)
    bias = rng.standard_normal(OC, np.float32)
    options = {"stride": stride, "padding": "same", "algorithm": algorithm, "groups": groups}
    found, teams = [], []
    for threads in (1, 2, 5, 16, 33):
        with pycnn.num_threads(threads):
            _pycnn.last_team_size()
            y = ops.conv2d(x, weight, bias, **options)
            teams.append(_pycnn.last_team_size())
            dx = ops.conv2d_backward_input(y, weight, x.shape, **options)
            dweight = ops.conv2d_backward_weight(x, y, weight.shape, **options)
        found.append([a.tobytes() for a in (y, dx, dweight)])
    assert all(other == found[0] for other in found)
    assert not _pycnn.has_openmp() or max(teams) > 1, teams

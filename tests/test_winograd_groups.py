"""Winograd's convolution through groups: values, bits, packed weights, refusals."""

import numpy as np
import pytest
import reference
import tolerance
import winograd_bound

import pycnn
from pycnn import layers, ops

# x, (channels of a group in, out, groups), padding. Every remainder of tiles by 2 and 4, blocks of
# several rows of tiles, groups that are not a multiple of those taken together, panels of 16 and of
# NR columns, more channels in than out and less, chunks of tiles of the gradient of the weight.
CASES = {
    "one_block": ((2, 7, 10, 32), (16, 16, 2), "same"),
    "nine_groups": ((3, 14, 13, 144), (16, 16, 9), 1),
    "wide_groups": ((2, 5, 9, 160), (32, 32, 5), "same"),
    "narrower": ((1, 9, 6, 96), (32, 16, 3), ((0, 2), (1, 0))),
    "wider": ((1, 6, 11, 48), (16, 32, 3), "valid"),
    "rim": ((1, 3, 5, 32), (16, 16, 2), 4),
    "no_image": ((0, 5, 6, 32), (16, 16, 2), 1),
}
DIRECTIONS = ("forward", "backward_input", "backward_weight")


def arrays(case):
    shape, (C, OC, groups), padding = CASES[case]
    rng = np.random.default_rng(3)
    kernel = (3, 3, C, OC * groups)
    pads = pycnn.explain_conv2d(shape, kernel, padding=padding, groups=groups).padding
    OH, OW = (size + sum(pad) - 2 for size, pad in zip(shape[1:3], pads, strict=True))
    x, weight, bias, dy = (
        rng.standard_normal(s, dtype=np.float32)
        for s in (shape, kernel, (OC * groups,), (shape[0], OH, OW, OC * groups))
    )
    return x, weight, bias, dy, pads, groups


def run(case, direction, **how):
    x, weight, bias, dy, pads, groups = arrays(case)
    how = {"padding": pads, "groups": groups, "algorithm": "winograd", **how}
    if direction == "forward":
        return ops.conv2d(x, weight, bias, **how)
    if direction == "backward_input":
        return ops.conv2d_backward_input(dy, weight, x.shape, **how)
    return ops.conv2d_backward_weight(x, dy, weight.shape, **how)


def bound(case, direction):
    """That of each group by itself."""
    x, weight, bias, dy, pads, groups = arrays(case)
    m = winograd_bound.tile_size(*(x if direction == "backward_input" else dy).shape[1:3])
    parts = []
    for of in zip(*(np.split(a, groups, axis=-1) for a in (x, weight, bias, dy)), strict=True):
        x_g, weight_g, bias_g, dy_g = of
        if direction == "forward":
            parts.append(winograd_bound.conv2d(x_g, weight_g, bias_g, pads, m))
        elif direction == "backward_input":
            shape = x_g.shape
            parts.append(winograd_bound.conv2d_backward_input(dy_g, weight_g, shape, pads, m))
        else:
            parts.append(winograd_bound.conv2d_backward_weight(x_g, dy_g, pads, m))
    return np.concatenate(parts, axis=-1)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("case", CASES)
def test_every_direction_lies_within_its_bound(isa, case, direction):
    x, weight, bias, dy, pads, groups = arrays(case)
    how = {"padding": pads, "groups": groups}
    exact = {
        "forward": lambda: reference.conv2d(x, weight, bias, **how),
        "backward_input": lambda: reference.conv2d_backward_input(dy, weight, x.shape, **how),
        "backward_weight": lambda: reference.conv2d_backward_weight(x, dy, weight.shape, **how),
    }[direction]()
    for threads in (1, 3):
        out = np.full(exact.shape, np.nan, np.float32)
        with pycnn.num_threads(threads):
            result = run(case, direction, out=out)
        tolerance.assert_within(result, exact, bound(case, direction), f"{threads} threads")


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("case", ["nine_groups", "wide_groups"])
def test_bits_depend_on_neither_threads_nor_isa(case, direction):
    found = set()
    before = pycnn.isa()
    try:
        for isa in set(pycnn.available_isas()) - {"baseline"}:
            pycnn.use_isa(isa)
            for threads in (1, 2, 3, 8):
                with pycnn.num_threads(threads):
                    found.add(run(case, direction).tobytes())
    finally:
        pycnn.use_isa(before)
    assert len(found) == 1


@pytest.mark.usefixtures("exact_precision")
def test_small_tiles_keep_integers_exact(isa, rng):
    """F(2x2) only halves and quarters; with a residual and relu, which groups share."""
    x = rng.integers(-4, 5, (2, 9, 7, 96)).astype(np.float32)
    weight = rng.integers(-4, 5, (3, 3, 32, 96)).astype(np.float32)
    bias, how = np.float32(rng.integers(-4, 5, 96)), {"padding": 1, "groups": 3}
    residual = rng.integers(-40, 40, x.shape).astype(np.float32)
    y = ops.conv2d(
        x, weight, bias, residual=residual, activation="relu", algorithm="winograd", **how
    )
    exact = reference.conv2d(x, weight, bias, **how) + residual
    np.testing.assert_array_equal(y, np.maximum(exact, 0))


def test_a_compiled_network_packs_what_a_call_makes(isa, num_threads, rng):
    """Eleven groups: more than a block takes, and half of a panel of 32 columns."""
    layer = layers.Conv2d(176, 176, 3, padding="same", groups=11, rng=0)
    x = rng.standard_normal((5, 14, 13, 176), dtype=np.float32)
    how = {"padding": "same", "groups": 11, "algorithm": "winograd"}
    explained = pycnn.explain_conv2d(x.shape, (3, 3, 16, 176), padding="same", groups=11)
    assert explained.forward == "winograd"
    y = ops.conv2d(x, layer.weight.data, layer.bias.data, **how)
    compiled = layers.Sequential(layer).compile_inference((None, 14, 13, 176))
    np.testing.assert_array_equal(compiled(x), y)


# size, channels, images: forward, dx, dweight. What was measured to be faster (docs/kernels.md).
CHOSEN = {
    (14, 512, 1): ("winograd",) * 3,
    (14, 512, 16): ("grouped",) * 3,
    (7, 1024, 1): ("grouped", "grouped", "winograd"),
    (7, 1024, 16): ("winograd",) * 3,
    (28, 256, 16): ("grouped",) * 3,
    (56, 128, 16): ("grouped",) * 3,
}


@pytest.mark.parametrize("case", CHOSEN, ids=str)
def test_auto_takes_what_was_faster(case):
    size, C, N = case
    found = pycnn.explain_conv2d((N, size, size, C), (3, 3, C // 32, C), padding=1, groups=32)
    assert (found.forward, found.backward_input, found.backward_weight) == CHOSEN[case]


@pytest.mark.parametrize("width", [(8, 8, 4), (16, 48, 2), (64, 64, 2), (16, 17, 2)], ids=str)
def test_other_groups_are_refused_by_name(rng, width):
    C, OC, groups = width
    x = rng.standard_normal((1, 5, 6, C * groups), dtype=np.float32)
    weight = rng.standard_normal((3, 3, C, OC * groups), dtype=np.float32)
    with pytest.raises(ValueError, match=r"winograd.* groups of 16 or 32 channels"):
        ops.conv2d(x, weight, groups=groups, algorithm="winograd")

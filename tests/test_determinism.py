"""The same bits for any number of threads, and on every instruction set with fused multiply-add.

The baseline set rounds a product and a sum where the others round once: its bits are its own, and
it agrees with the others within the derived bound. Shapes are large enough that threads do run,
which each test asserts.
"""

import functools
import hashlib

import _pycnn
import numpy as np
import pytest
import reference
import tolerance
from op_table import BOUNDS, OPERATORS

import pycnn
from pycnn import losses, models, ops, optim

THREADS = (1, 2, 3, 8)
needs_openmp = pytest.mark.skipif(
    not _pycnn.has_openmp(), reason="built without OpenMP: every operator runs on one thread"
)
FUSED = [name for name in ("avx2", "avx512") if name in pycnn.available_isas()]
without_both = pytest.mark.skipif(
    len(FUSED) < 2, reason=f"compares avx2 with avx512; this CPU has {pycnn.available_isas()}"
)

# name: (N, H, W, C), (KH, KW, OC), options
CONVS = {
    "conv1": ((61, 28, 28, 1), (3, 3, 32), {"padding": "same"}),
    "grey": ((61, 28, 28, 1), (5, 5, 6), {"padding": "same"}),
    "colours": ((31, 31, 30, 3), (3, 3, 24), {"padding": "same"}),
    "colours_stride": ((41, 41, 45, 3), (3, 3, 32), {"stride": 2, "padding": 1}),
    "conv2": ((29, 14, 14, 32), (3, 3, 64), {"padding": "same"}),
    "conv3": ((53, 7, 7, 64), (3, 3, 128), {"padding": "same"}),
    "5x5": ((13, 15, 13, 17), (5, 5, 33), {"padding": 2}),
    "1x1": ((37, 14, 14, 48), (1, 1, 40), {}),
    "1x1_stride_2": ((61, 28, 27, 32), (1, 1, 48), {"stride": 2}),
    "1x1_wide": ((3, 7, 7, 1024), (1, 1, 1024), {}),
    "stride_2": ((31, 15, 14, 32), (3, 3, 48), {"stride": 2, "padding": "same"}),
    "groups": ((31, 13, 14, 24), (3, 3, 48), {"groups": 2, "dilation": 2, "padding": 2}),
    "depthwise": ((97, 17, 14, 49), (3, 3, 49), {"groups": 49, "padding": "same"}),
    "one_image": ((1, 28, 27, 64), (3, 3, 96), {"padding": "same"}),
    "depthwise_channels": ((311, 17, 14, 5), (3, 3, 5), {"groups": 5, "padding": "same"}),
}
# Beside "auto" in every shape, and "direct" where that takes Winograd: one shape for each way in
# which these cut their work. im2col of groups is a region a group, so it needs many images.
OTHERS = {
    "naive": ("conv1", "stride_2", "groups"),
    "im2col": ("5x5", "1x1", "stride_2", "groups", "depthwise_channels"),
}


def algorithms_of(name, x, weight, options):
    chosen = ops.explain_conv2d(x, weight, **options)
    directions = chosen.forward, chosen.backward_input, chosen.backward_weight
    direct = ("direct",) if "winograd" in directions else ()
    return ("auto", *direct, *(key for key, names in OTHERS.items() if name in names))


RELU = {"activation": "relu"}
TRANSPOSED = {
    "unet": ((7, 14, 13, 64), (2, 2, 32, 64), {"stride": 2}),
    "dcgan": ((16, 16, 16, 48), (4, 4, 3, 48), {"stride": 2, "padding": 1}),
    "stride_3": ((9, 10, 11, 33), (2, 4, 24, 33), {"stride": 3, "output_padding": 1}),
}


def conv_cases():
    for name, ((N, H, W, C), (KH, KW, OC), options) in CONVS.items():
        geometry = {key: value for key, value in options.items() if key != "groups"}
        windows = reference.Windows((H, W), (KH, KW), **{"stride": 1, "padding": 0, **geometry})
        x, dy = (N, H, W, C), (N, windows.OH, windows.OW, OC)
        weight = (KH, KW, C // options.get("groups", 1), OC)
        for algorithm in algorithms_of(name, x, weight, options):
            used = {**options, "algorithm": algorithm}
            key = f"{name}-{algorithm}"
            yield f"{key}-forward", ("conv2d", (x, weight, (OC,)), used)
            yield (
                f"{key}-backward_input",
                ("conv2d_backward_input", (dy, weight), {"input_shape": x, **used}),
            )
            yield (
                f"{key}-backward_weight",
                ("conv2d_backward_weight", (x, dy), {"weight_shape": weight, **used}),
            )
    for name, (x, weight, options) in TRANSPOSED.items():
        y = ops.conv_transpose2d_output_shape(x, weight, **options)
        bias = (y[3],)
        yield f"{name}-y", ("conv_transpose2d", (x, weight, bias), {**options, **RELU})
        given = {"input_shape": x, **options}
        yield f"{name}-dx", ("conv_transpose2d_backward_input", (y, weight), given)
        given = {"weight_shape": weight, **options}
        yield f"{name}-dweight", ("conv_transpose2d_backward_weight", (x, y), given)
    yield "bias", ("conv2d_backward_bias", ((61, 28, 28, 32),), {})


RESIZED = {"scale": (1.7, 2.0), "mode": "bilinear"}
POOL = {"kernel_size": 3, "stride": 2, "padding": "same"}
SHAPES = {
    "max_pool2d": [((61, 28, 28, 32),)],
    "avg_pool2d": [((61, 28, 28, 32),)],
    "avg_pool2d_backward": [((61, 14, 14, 32),)],
    "matmul": [
        ((301, 500), (500, 403)),
        ((100, 2048), (2048, 33)),
        ((2048, 100), (100, 33)),
        ((7, 3000), (3000, 1501)),
        ((1, 3001), (3001, 2000)),
    ],
    "relu": [((700_001,),)],
    "relu_backward": [((700_001,), (700_001,))],
    "activation": [((700_001,),)],
    "activation_backward": [((700_001,), (700_001,))],
    "prelu": [((29001, 37), (37,))],
    "prelu_backward": [((29001, 37), (29001, 37), (37,))],
    "softmax": [((3001, 100),)],
    "log_softmax": [((3001, 100),)],
    "softmax_backward": [((3001, 100), (3001, 100))],
    "log_softmax_backward": [((3001, 100), (3001, 100))],
    "softmax_cross_entropy": [((3001, 100), "labels"), ((40_001, 7), (40_001, 7))],
    "mse_loss": [((700_001,), (700_001,))],
    "l1_loss": [((6001, 101), (6001, 101))],
    "huber_loss": [((6001, 101), (6001, 101))],
    "binary_cross_entropy_with_logits": [((6001, 101), (6001, 101))],
    "add_bias": [((9001, 100), (100,))],
    "accumulate": [((700_001,), (700_001,))],
    "adam_step": [((300_001,),) * 4],
    "sgd_step": [((500_001,),) * 3],
    "rmsprop_step": [((300_001,),) * 4],
    "batch_norm": [
        ((101, 14, 14, 32), (32,), (32,)),
        ((203, 14, 15, 8), (8,), (8,)),
        ((67, 13, 13, 20), (20,), (20,)),
    ],
    "batch_norm_inference": [((101, 14, 14, 32), *((32,),) * 3, "positive")],
    "batch_norm_backward": [
        ((101, 14, 14, 32), (101, 14, 14, 32), *((32,),) * 3, "positive"),
        ((403, 14, 14, 4), (403, 14, 14, 4), *((4,),) * 3, "four"),
        ((67, 13, 13, 20), (67, 13, 13, 20), *((20,),) * 3, "twenty"),
    ],
    "dropout": [((700_001,),)],
    "dropout2d": [((61, 28, 28, 32),)],
    "permute": [((61, 28, 28, 33),)],
    "resize": [((61, 28, 28, 20),)],
    "resize_backward": [((61, 47, 56, 20),)],
    "global_avg_pool2d": [((61, 28, 28, 32),)],
    "global_avg_pool2d_backward": [((61, 32),)],
    "adaptive_max_pool2d": [((61, 28, 28, 32),)],
    "adaptive_avg_pool2d": [((61, 28, 28, 32),)],
    "adaptive_avg_pool2d_backward": [((61, 12, 9, 32),), ((61, 4, 7, 32),)],
    "global_max_pool2d": [((61, 28, 28, 32),)],
    "gather_images": [("bytes", "indices")],
    "augment_images": [("bytes", "indices")],
    "max_pool2d_backward": [((61, 14, 14, 32), "winners")],
}
OPTIONS = {
    "max_pool2d": POOL,
    "avg_pool2d": POOL,
    "avg_pool2d_backward": {"input_shape": (61, 28, 28, 32), **POOL},
    "max_pool2d_backward": {"input_shape": (61, 28, 28, 32)},
    "augment_images": {"seed": 1, "epoch": 2, "shift": 2.0, "rotation": 9.0, "elastic_alpha": 9.0},
    "adam_step": {"step": 7, "lr": 0.01, "weight_decay": 0.1},
    "sgd_step": {"lr": 0.1, "momentum": 0.9, "nesterov": True},
    "rmsprop_step": {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.1},
    "batch_norm": {"activation": "relu"},
    "activation": {"kind": "gelu"},
    "activation_backward": {"kind": "gelu"},
    "l1_loss": {"sample_weight": np.linspace(0, 1, 6001, dtype=np.float32)},
    "binary_cross_entropy_with_logits": {"pos_weight": np.arange(101)},
    "dropout": {"p": 0.3, "seed": 12345, "calls": 6},
    "dropout2d": {"p": 0.3, "seed": 12345, "calls": 6},
    "permute": {"axes": (0, 3, 1, 2)},
    "resize": RESIZED,
    "resize_backward": {"input_shape": (61, 28, 28, 20), **RESIZED},
    "global_avg_pool2d_backward": {"input_shape": (61, 28, 28, 32)},
    "adaptive_max_pool2d": {"output_size": (12, 9)},
    "adaptive_avg_pool2d": {"output_size": (12, 9)},
    "adaptive_avg_pool2d_backward": {"input_shape": (61, 28, 28, 32)},
}
POSITIVE = {"positive": 32, "four": 4, "twenty": 20}
CASES = {
    **{
        f"{name}-{i}": (name, shapes, OPTIONS.get(name, {}))
        for name, all_shapes in SHAPES.items()
        for i, shapes in enumerate(all_shapes)
    },
    **dict(conv_cases()),
}


def make(shape, rng):
    if shape == "labels":
        return rng.integers(0, 100, 3001)
    if shape == "bytes":
        return rng.integers(0, 256, (1000, 28, 28, 1), dtype=np.uint8)
    if shape == "indices":
        return rng.integers(0, 1000, 2003)
    if shape in POSITIVE:
        return rng.random(POSITIVE[shape], np.float32) + np.float32(0.5)
    if shape == "winners":
        x = rng.standard_normal((61, 28, 28, 32), np.float32)
        return ops.max_pool2d(x, return_indices=True, **POOL)[1]
    return rng.standard_normal(shape, np.float32)


@functools.lru_cache(maxsize=1)
def arguments(case):
    """The arrays of a case: kept while the instruction sets and thread counts take turns."""
    name, shapes, options = CASES[case]
    rng = np.random.default_rng(sorted(CASES).index(case))
    arrays = [make(shape, rng) for shape in shapes]
    if name in ("adam_step", "rmsprop_step"):
        moment = 3 if name == "adam_step" else 2
        arrays[moment] = np.abs(arrays[moment])
    return OPERATORS[name], arrays, options


def on(isa, function):
    """function() on this instruction set."""
    before = pycnn.isa()
    pycnn.use_isa(isa)
    try:
        return function()
    finally:
        pycnn.use_isa(before)


def unwritten(like):
    """NaN, so that an element that no thread writes shows; fresh memory may hold an old result."""
    return np.full(like.shape, np.nan if like.dtype.kind == "f" else -1, like.dtype)


def bits(results):
    return [np.asarray(result).tobytes() for result in results]


@needs_openmp
@pytest.mark.parametrize("case", CASES)
def test_any_number_of_threads_gives_the_same_bits(case):
    """And avx2 those of avx512, where the CPU has both."""
    operator, arrays, options = arguments(case)
    fused, likes = set(), operator(arrays, options)
    for isa in pycnn.available_isas():
        found = []
        for threads in THREADS:
            out = tuple(unwritten(like) for like in likes) if operator.has_out else None
            with pycnn.num_threads(threads):
                _pycnn.last_team_size()
                found.append(bits(on(isa, lambda out=out: operator(arrays, options, out))))
                team = _pycnn.last_team_size()
            assert team == 1 if threads == 1 else 1 < team <= threads, (isa, threads, team)
        if operator.has_out:
            assert not np.isnan(out[0]).any()
        assert all(bits_of_one == found[0] for bits_of_one in found), isa
        if isa in FUSED:
            fused.add(tuple(found[0]))
    assert len(fused) <= 1, "avx2 and avx512 differ"


# The bounds of these take seconds; test_conv2d.py and test_depthwise.py check smaller ones.
LONG = ("1x1_wide", "depthwise-", "dropout")
ROUNDED = [
    pytest.param(case, marks=pytest.mark.slow if case.startswith(LONG) else ())
    for case in CASES
    if "naive" not in case and "im2col" not in case
]


@pytest.mark.parametrize("case", ROUNDED)
@pytest.mark.skipif(not FUSED, reason="compares baseline with avx2 or avx512; this CPU has neither")
def test_baseline_agrees_with_the_others_within_the_bound(case):
    """Each lies within the bound of the exact result, so they lie within twice the bound."""
    operator, arrays, options = arguments(case)
    exact_options = {key: value for key, value in options.items() if key != "algorithm"}
    name = operator.name
    found = [getattr(module, name, None) for module in BOUNDS]
    bounds = next(filter(None, found), tolerance.exact)(*arrays, **exact_options)
    plain, fused = (on(isa, lambda: operator(arrays, options)) for isa in ("baseline", FUSED[-1]))
    bounds = bounds if isinstance(bounds, tuple) else (bounds,) * len(plain)
    for one, other, bound in zip(plain, fused, bounds, strict=True):
        tolerance.assert_within(one, np.float64(other), 2 * bound, case)


@functools.cache
def trained(isa, threads):
    """(hash of the parameters, losses) of the lecture's network after 50 steps."""
    rng = np.random.default_rng(5)
    images = rng.integers(0, 256, (200, 28, 28, 1), dtype=np.uint8)
    labels = rng.integers(0, 10, 200, dtype=np.uint8)
    model = models.mnist_cnn(0, init="he")
    loss_function, optimizer = losses.SoftmaxCrossEntropy(), optim.Adam(model.parameters(), lr=1e-3)
    model.train()
    values, teams = [], []
    for _ in range(50):
        batch = rng.integers(0, 200, 40)
        _pycnn.last_team_size()
        logits = model.forward(ops.gather_images(images, batch))
        loss, dlogits = loss_function(logits, labels[batch])
        optimizer.zero_grad()
        model.backward(dlogits)
        teams.append(_pycnn.last_team_size())
        optimizer.step()
        values.append(loss)
    assert np.isfinite(values).all()
    assert values[-1] < values[0], "nothing was learnt"
    assert max(teams) == 1 if threads == 1 else min(teams) > 1, teams
    data = b"".join(parameter.data.tobytes() for parameter in model.parameters())
    return hashlib.sha256(data).hexdigest(), tuple(values)


def train_on(isa, threads):
    with pycnn.num_threads(threads):
        return on(isa, lambda: trained(isa, threads))


@needs_openmp
@pytest.mark.slow
@pytest.mark.parametrize("isa_name", pycnn.available_isas())
def test_fifty_steps_of_training_give_the_same_bits(isa_name):
    assert len({train_on(isa_name, threads) for threads in THREADS}) == 1


@needs_openmp
@pytest.mark.slow
@without_both
def test_fifty_steps_on_avx2_give_the_bits_of_avx512():
    assert train_on("avx2", 2) == train_on("avx512", 3)


@without_both
def test_the_instruction_sets_really_differ():
    """Else the comparisons above compare one thing with itself."""
    sizes = [on(isa, lambda: (pycnn.isa(), _pycnn.tile_sizes()["MR"])) for isa in FUSED]
    assert sizes[0] != sizes[1]

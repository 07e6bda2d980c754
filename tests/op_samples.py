"""Sample inputs of the operators, read-only, for `op_table.py`."""

from dataclasses import dataclass, field

import numpy as np
import reference

_rng = np.random.default_rng(1998)


def frozen(array):
    """The array itself, read-only: an operator that writes to its input fails."""
    array.flags.writeable = False
    return array


def normal(*shape):
    return frozen(_rng.standard_normal(shape, dtype=np.float32))


@dataclass(frozen=True)
class Sample:
    arrays: tuple
    options: dict = field(default_factory=dict)

    def astype(self, dtype):
        """The same sample with its float arrays in another type."""

        def cast(value):
            float32 = getattr(value, "dtype", None) == np.float32
            return frozen(value.astype(dtype)) if float32 else value

        options = {name: cast(value) for name, value in self.options.items()}
        return Sample(tuple(map(cast, self.arrays)), options)


def conv(N, H, W, C, KH, KW, OC, **options):
    """The four arrays of one convolution, and its options."""
    weight = normal(KH, KW, C // options.get("groups", 1), OC)
    geometry = {key: value for key, value in options.items() if key != "groups"}
    windows = reference.Windows((H, W), (KH, KW), **{"stride": 1, "padding": "valid", **geometry})
    x, dy = normal(N, H, W, C), normal(N, windows.OH, windows.OW, OC)
    return x, weight, normal(OC), dy, options


CONVS = {
    "same": conv(2, 7, 5, 3, 3, 3, 17, padding="same"),
    "lecture": conv(1, 8, 6, 16, 3, 3, 8, stride=[1, 2, 2, 1], padding="SAME"),
    "four_sided": conv(2, 5, 6, 1, 2, 4, 5, stride=(2, 1), padding=((0, 2), (3, 1))),
    "groups": conv(2, 6, 6, 6, 3, 2, 4, groups=2, dilation=(1, 2), padding=1),
}
FORWARD = {k: Sample((x, w, b), o) for k, (x, w, b, _, o) in CONVS.items()}
FORWARD["relu"] = Sample(
    FORWARD["groups"].arrays, {**FORWARD["groups"].options, "activation": "relu"}
)
FORWARD["silu"] = Sample(
    FORWARD["groups"].arrays, {**FORWARD["groups"].options, "activation": "silu"}
)
INPUT = {k: Sample((dy, w), {"input_shape": x.shape, **o}) for k, (x, w, _, dy, o) in CONVS.items()}
WEIGHT = {
    k: Sample((x, dy), {"weight_shape": w.shape, **o}) for k, (x, w, _, dy, o) in CONVS.items()
}
BIAS = {k: Sample((dy,)) for k, (*_, dy, _) in CONVS.items()}

POOLS = {
    "lecture": (normal(2, 7, 5, 17), 2, {"stride": [1, 2, 2, 1], "padding": "SAME"}),
    "overlap": (normal(1, 6, 5, 3), (3, 2), {"stride": 1, "padding": (1, 0)}),
    "gaps": (normal(2, 7, 8, 16), 2, {"stride": (3, 2)}),
    "ceil": (normal(2, 7, 6, 5), 3, {"stride": 2, "padding": (0, 1), "ceil_mode": True}),
    "dilated": (normal(1, 9, 6, 18), (3, 2), {"stride": 1, "padding": 1, "dilation": (2, 3)}),
}


def pool_gradients(maximum):
    samples = {}
    for key, (x, kernel_size, options) in POOLS.items():
        y, indices = reference.max_pool2d(x, kernel_size, **options)
        if maximum:
            samples[key] = Sample((normal(*y.shape), frozen(indices)), {"input_shape": x.shape})
        else:
            shape = {"input_shape": x.shape, "kernel_size": kernel_size}
            samples[key] = Sample((normal(*y.shape),), {**shape, **options})
    return samples


COUNT_PAD = {"kernel_size": 3, "stride": 2, "padding": 1, "count_include_pad": True}
POOL_FORWARD = {k: Sample((x,), {"kernel_size": size, **o}) for k, (x, size, o) in POOLS.items()}

ROWS = {"narrow": (5, 10), "wide": (3, 70), "three_axes": (2, 3, 17), "one_axis": (7,)}
CLASSES = np.array([3, 0, 9, 9, 1])
ONE_HOT = frozen(np.eye(10, dtype=np.float32)[CLASSES])


def loss(**options):
    return Sample((normal(5, 10), frozen(CLASSES)), options)


_PIXELS = frozen(_rng.integers(0, 21, (2, 3, 5)))
_WEIGHTS = frozen(np.array([0.5, 0, 2, 1, 1.5], np.float32))
LOSSES = {
    "classes": loss(),
    "smoothing": loss(label_smoothing=0.1),
    "one_hot": Sample((normal(5, 10), ONE_HOT)),
    "one_hot_smoothing": Sample((normal(5, 10), ONE_HOT), {"label_smoothing": 0.25}),
    "weights": loss(
        label_smoothing=0.1, class_weights=np.arange(10), ignore_index=9, sample_weight=_WEIGHTS
    ),
    "soft_weights": Sample(
        (normal(5, 40), frozen(np.abs(normal(5, 40)))),
        {"class_weights": np.arange(40) % 3, "sample_weight": _WEIGHTS},
    ),
    "wide": Sample(
        (normal(5, 40), frozen(np.array([0, 39, 16, 15, 0]))),
        {"class_weights": np.arange(40), "ignore_index": 0, "label_smoothing": 0.1},
    ),
    "maps": Sample((normal(2, 3, 5, 21), _PIXELS), {"sample_weight": _WEIGHTS[:2]}),
}


def pointwise(targets=lambda x: x, **options):
    """outputs [N], [N, K], and images; a weight for each sample, or for each row of pixels."""
    return {
        "row": Sample((normal(37), frozen(targets(normal(37)))), options),
        "weights": Sample(
            (normal(5, 10), frozen(targets(normal(5, 10)))),
            {"sample_weight": _WEIGHTS, **options},
        ),
        "maps": Sample(
            (normal(2, 3, 5, 33), frozen(targets(normal(2, 3, 5, 33)))),
            {"sample_weight": frozen(np.abs(normal(2, 3))), **options},
        ),
    }


POINTWISE = {
    "mse_loss": pointwise(),
    "l1_loss": pointwise(),
    "huber_loss": pointwise(delta=0.5),
    "binary_cross_entropy_with_logits": {
        **pointwise(lambda x: np.clip(x, 0, 1)),
        "positive": Sample((normal(5, 10), ONE_HOT), {"pos_weight": np.arange(10)}),
    },
}


def steps(count, *options):
    """Samples of `count` arrays of 5 x 7 numbers; the last one is never negative."""
    arrays = [[normal(5, 7) for _ in range(count - 1)] for _ in options]
    last = [frozen(np.abs(normal(5, 7))) for _ in options]
    return {
        f"{i}": Sample((*first, end), o)
        for i, (first, end, o) in enumerate(zip(arrays, last, options, strict=True))
    }


def norm(shape, **options):
    """x, weight, bias and options; a channel's mean lies some deviations from 0."""
    C = shape[-1]
    return Sample((frozen(2 * normal(*shape) + 3), normal(C), normal(C)), options)


NORMS = {
    "lecture": norm((2, 7, 5, 17)),
    "relu": norm((3, 4, 5, 32), activation="relu", eps=1e-3),
    "eight_channels": norm((2, 6, 5, 8), activation="relu"),
    "three_channels": norm((4, 3, 3, 3)),
    "odd_rows": norm((3, 3, 3, 4)),
    "two_axes": norm((9, 50)),
    "several_chunks": norm((7, 11, 9, 16)),
}


def norm_gradients():
    samples = {}
    for key, sample in NORMS.items():
        _, mean, var = reference.batch_norm(*sample.arrays, **sample.options)
        x, weight, bias = sample.arrays
        given = frozen(np.float32(mean)), frozen(np.float32(var))
        samples[key] = Sample((normal(*x.shape), x, weight, bias, *given), sample.options)
    return samples


NORM_GRADIENTS = norm_gradients()
NORM_INFERENCE = {key: Sample(s.arrays[1:], s.options) for key, s in NORM_GRADIENTS.items()}

BYTES = frozen(_rng.integers(0, 256, (9, 4, 3, 1), dtype=np.uint8))

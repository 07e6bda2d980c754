"""Every operator in one table: sample inputs, reference, bound, and what its arguments are.

`test_op_table.py`, `test_out_arrays.py` and `test_errors.py` go through it. A new operator gets a
row here, one in `bad_inputs.py`, a function of its name in `reference.py` and a bound in
`tolerance.py`.
"""

import functools
from dataclasses import dataclass, field

import numpy as np
import reference
import tolerance

from pycnn import ops

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
        cast = (frozen(a.astype(dtype)) if a.dtype == np.float32 else a for a in self.arrays)
        return Sample(tuple(cast), self.options)


@dataclass(frozen=True)
class Operator:
    """`arrays` are the names of the array arguments; the other fields say what they are.

    images: those in image layout; batch: those whose first axis is the batch; updated: those that
    are written in place, the results; in_place: those that `out` may be; image_result: the results
    are images.
    """

    name: str
    arrays: tuple
    samples: dict
    images: tuple = ()
    batch: tuple = ()
    updated: tuple = ()
    in_place: tuple = ()
    image_result: bool = False
    has_out: bool = True

    def __call__(self, arrays, options, out=None):
        """The results as a tuple; `out` alike, if given."""
        if self.updated:
            arrays = [
                None if a is None else np.array(a) if name in self.updated else a
                for name, a in zip(self.arrays, arrays, strict=True)
            ]
            assert getattr(ops, self.name)(*arrays, **options) is None
            return tuple(arrays[self.arrays.index(name)] for name in self.updated)
        function = getattr(ops, self.name)
        if self.name == "max_pool2d":
            function = functools.partial(function, return_indices=True)
        if out is not None:
            options = {**options, "out": out if len(out) > 1 else out[0]}
        result = function(*arrays, **options)
        return result if isinstance(result, tuple) else (result,)

    def floats(self):
        """The names of the float32 arrays."""
        first = next(iter(self.samples.values()))
        pairs = zip(self.arrays, first.arrays, strict=True)
        return [name for name, array in pairs if array.dtype == np.float32]

    def expected(self, sample):
        """[(exact, bound)] of each result."""
        exact = getattr(reference, self.name)(*sample.arrays, **sample.options)
        bound = getattr(tolerance, self.name, tolerance.exact)(*sample.arrays, **sample.options)
        exact = exact if isinstance(exact, tuple) else (exact,)
        bound = bound if isinstance(bound, tuple) else (bound,) * len(exact)
        return list(zip(exact, bound, strict=True))


@functools.cache
def expected(name, sample_id, dtype):
    """`Operator.expected` of a sample, computed once for all instruction sets and thread counts."""
    operator = OPERATORS[name]
    return operator.expected(operator.samples[sample_id].astype(dtype))


def check(results, expected, dtype, what=""):
    for result, (exact, bound) in zip(results, expected, strict=True):
        kind = np.int32 if getattr(exact, "dtype", None) == np.int32 else dtype
        assert np.ndim(exact) == 0 or result.dtype == kind, f"{what}: {result.dtype}"
        tolerance.assert_within(result, exact, bound, what)


def _conv(N, H, W, C, KH, KW, OC, **options):
    """The four arrays of one convolution, and its options."""
    weight = normal(KH, KW, C // options.get("groups", 1), OC)
    geometry = {key: value for key, value in options.items() if key != "groups"}
    windows = reference.Windows((H, W), (KH, KW), **{"stride": 1, "padding": "valid", **geometry})
    x, dy = normal(N, H, W, C), normal(N, windows.OH, windows.OW, OC)
    return x, weight, normal(OC), dy, options


_CONVS = {
    "same": _conv(2, 7, 5, 3, 3, 3, 17, padding="same"),
    "lecture": _conv(1, 8, 6, 16, 3, 3, 8, stride=[1, 2, 2, 1], padding="SAME"),
    "four_sided": _conv(2, 5, 6, 1, 2, 4, 5, stride=(2, 1), padding=((0, 2), (3, 1))),
    "groups": _conv(2, 6, 6, 6, 3, 2, 4, groups=2, dilation=(1, 2), padding=1),
}
_FORWARD = {k: Sample((x, w, b), o) for k, (x, w, b, _, o) in _CONVS.items()}
_FORWARD["relu"] = Sample(
    _FORWARD["groups"].arrays, {**_FORWARD["groups"].options, "activation": "relu"}
)
_INPUT = {
    k: Sample((dy, w), {"input_shape": x.shape, **o}) for k, (x, w, _, dy, o) in _CONVS.items()
}
_WEIGHT = {
    k: Sample((x, dy), {"weight_shape": w.shape, **o}) for k, (x, w, _, dy, o) in _CONVS.items()
}
_BIAS = {k: Sample((dy,)) for k, (*_, dy, _) in _CONVS.items()}

_POOLS = {
    "lecture": (normal(2, 7, 5, 17), 2, {"stride": [1, 2, 2, 1], "padding": "SAME"}),
    "overlap": (normal(1, 6, 5, 3), (3, 2), {"stride": 1, "padding": (1, 0)}),
    "gaps": (normal(2, 7, 8, 16), 2, {"stride": (3, 2)}),
}


def _pool_gradients(maximum):
    samples = {}
    for key, (x, kernel_size, options) in _POOLS.items():
        y, indices = reference.max_pool2d(x, kernel_size, **options)
        if maximum:
            samples[key] = Sample((normal(*y.shape), frozen(indices)), {"input_shape": x.shape})
        else:
            shape = {"input_shape": x.shape, "kernel_size": kernel_size}
            samples[key] = Sample((normal(*y.shape),), {**shape, **options})
    return samples


_COUNT_PAD = {"kernel_size": 3, "stride": 2, "padding": 1, "count_include_pad": True}
_POOL_FORWARD = {k: Sample((x,), {"kernel_size": size, **o}) for k, (x, size, o) in _POOLS.items()}

_ROWS = {"narrow": (5, 10), "wide": (3, 70), "three_axes": (2, 3, 17), "one_axis": (7,)}
CLASSES = np.array([3, 0, 9, 9, 1])
ONE_HOT = frozen(np.eye(10, dtype=np.float32)[CLASSES])


def _loss(**options):
    return Sample((normal(5, 10), frozen(CLASSES)), options)


def _steps(count, *options):
    """Samples of `count` arrays of 5 x 7 numbers; the last one is never negative."""
    arrays = [[normal(5, 7) for _ in range(count - 1)] for _ in options]
    last = [frozen(np.abs(normal(5, 7))) for _ in options]
    return {
        f"{i}": Sample((*first, end), o)
        for i, (first, end, o) in enumerate(zip(arrays, last, options, strict=True))
    }


_BYTES = frozen(_rng.integers(0, 256, (9, 4, 3, 1), dtype=np.uint8))
_COLOURS = frozen(np.random.default_rng(3).standard_normal((3, 7, 19, 3), np.float32))
_MEANS = {"mean": (0.1, -0.2, 0.3), "std": (1.0, 0.5, 2.0)}
_EPOCH = {"seed": 5, "epoch": 2}
_AFFINE = {"shift": 1.5, "rotation": 30.0, "scale": 0.2, "shear": 0.3}

_ALL = [
    Operator(
        "conv2d", ("x", "weight", "bias"), _FORWARD, images=("x",), batch=("x",), image_result=True
    ),
    Operator(
        "conv2d_backward_input",
        ("dy", "weight"),
        _INPUT,
        images=("dy",),
        batch=("dy",),
        image_result=True,
    ),
    Operator("conv2d_backward_weight", ("x", "dy"), _WEIGHT, images=("x", "dy"), batch=("x", "dy")),
    Operator("conv2d_backward_bias", ("dy",), _BIAS, images=("dy",), batch=("dy",)),
    Operator("max_pool2d", ("x",), _POOL_FORWARD, images=("x",), batch=("x",), image_result=True),
    Operator(
        "max_pool2d_backward",
        ("dy", "indices"),
        _pool_gradients(True),
        images=("dy", "indices"),
        batch=("dy", "indices"),
        image_result=True,
    ),
    Operator(
        "avg_pool2d",
        ("x",),
        {
            **_POOL_FORWARD,
            "count_pad": Sample((normal(2, 5, 4, 3),), _COUNT_PAD),
        },
        images=("x",),
        batch=("x",),
        image_result=True,
    ),
    Operator(
        "avg_pool2d_backward",
        ("dy",),
        {
            **_pool_gradients(False),
            "count_pad": Sample((normal(2, 3, 2, 3),), {"input_shape": (2, 5, 4, 3), **_COUNT_PAD}),
        },
        images=("dy",),
        batch=("dy",),
        image_result=True,
    ),
    Operator(
        "matmul",
        ("a", "b"),
        {
            "plain": Sample((normal(7, 11), normal(11, 18))),
            "transpose_a": Sample((normal(11, 7), normal(11, 18)), {"transpose_a": True}),
            "transpose_b": Sample((normal(7, 11), normal(18, 11)), {"transpose_b": True}),
        },
        batch=("a",),
    ),
    Operator(
        "relu",
        ("x",),
        {key: Sample((normal(*shape),)) for key, shape in _ROWS.items()},
        batch=("x",),
        in_place=("x",),
    ),
    Operator(
        "relu_backward",
        ("dy", "y"),
        {
            key: Sample((normal(*shape), frozen(np.maximum(normal(*shape), 0))))
            for key, shape in _ROWS.items()
        },
        batch=("dy", "y"),
        in_place=("dy",),
    ),
    *(
        Operator(
            name,
            ("x",),
            {key: Sample((frozen(3 * normal(*shape)),)) for key, shape in _ROWS.items()},
            batch=("x",),
        )
        for name in ("softmax", "log_softmax")
    ),
    *(
        Operator(
            f"{name}_backward",
            ("dy", "y"),
            {
                key: Sample((normal(*shape), frozen(np.float32(forward(normal(*shape))))))
                for key, shape in _ROWS.items()
            },
            batch=("dy", "y"),
        )
        for name, forward in (
            ("softmax", reference.softmax),
            ("log_softmax", reference.log_softmax),
        )
    ),
    Operator(
        "softmax_cross_entropy",
        ("logits", "labels"),
        {
            "classes": _loss(),
            "smoothing": _loss(label_smoothing=0.1),
            "one_hot": Sample((normal(5, 10), ONE_HOT)),
            "one_hot_smoothing": Sample((normal(5, 10), ONE_HOT), {"label_smoothing": 0.25}),
        },
        batch=("logits", "labels"),
        has_out=False,
    ),
    Operator(
        "add_bias",
        ("y", "bias"),
        {
            key: Sample((normal(*shape), normal(shape[-1])))
            for key, shape in sorted(_ROWS.items(), key=lambda row: len(row[1]))  # one axis first
        },
        updated=("y",),
        has_out=False,
    ),
    Operator(
        "accumulate",
        ("total", "part"),
        {key: Sample((normal(*shape), normal(*shape))) for key, shape in _ROWS.items()},
        batch=("total", "part"),
        updated=("total",),
        has_out=False,
    ),
    Operator(
        "adam_step",
        ("param", "grad", "m", "v"),
        _steps(
            4,
            {"step": 1, "lr": 0.001},
            {"step": 1000, "lr": 0.1, "beta1": 0.5, "beta2": 0.9, "eps": 1e-3},
            {"step": 7, "lr": 0.01, "weight_decay": 0.1},
        ),
        updated=("param", "m", "v"),
        has_out=False,
    ),
    Operator(
        "sgd_step",
        ("param", "grad", "velocity"),
        _steps(
            3,
            {"lr": 0.1},
            {"lr": 0.1, "momentum": 0.9},
            {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
        ),
        updated=("param", "velocity"),
        has_out=False,
    ),
    Operator(
        "gather_images",
        ("images", "indices"),
        {
            "bytes": Sample((_BYTES, frozen(np.array([8, 0, 3, 3, 5])))),
            "scale": Sample((_BYTES, frozen(np.array([1, 7]))), {"scale": 0.5}),
            "normalised": Sample((_BYTES, frozen(np.array([1, 7]))), {"mean": 0.13, "std": 0.31}),
            "colours": Sample((_COLOURS, frozen(np.array([2, 0]))), _MEANS),
        },
        batch=("indices",),
    ),
    Operator(
        "augment_images",
        ("images", "indices"),
        {
            "affine": Sample((_BYTES, frozen(np.array([8, 0, 3, 3, 5]))), {**_EPOCH, **_AFFINE}),
            "elastic": Sample(
                (_BYTES, frozen(np.array([1, 7]))),
                {**_EPOCH, "elastic_alpha": 9.0, "elastic_sigma": 1.5, "mean": 0.13, "std": 0.31},
            ),
            "colours": Sample(
                (_COLOURS, frozen(np.array([2, 0]))), {**_EPOCH, **_AFFINE, **_MEANS, "erase": 0.5}
            ),
        },
        batch=("indices",),
    ),
]
OPERATORS = {operator.name: operator for operator in _ALL}
ROWS = [(name, key) for name, operator in OPERATORS.items() for key in operator.samples]

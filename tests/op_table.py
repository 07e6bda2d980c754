"""Every operator in one table: sample inputs, reference, bound, and what its arguments are.

`test_op_table.py`, `test_out_arrays.py` and `test_errors.py` go through it. A new operator gets a
row here, one in `bad_inputs.py`, a function of its name in `reference.py` and a bound in
`tolerance.py`.
"""

import functools
from dataclasses import dataclass

import numpy as np
import op_moves
import op_rows_arithmetic
import op_rows_norm
import op_windows
import reference
import tolerance
import tolerance_arithmetic
import tolerance_row_norm
import tolerance_windows
from op_samples import (
    BIAS,
    BYTES,
    COUNT_PAD,
    FORWARD,
    INPUT,
    LOSSES,
    NORM_GRADIENTS,
    NORM_INFERENCE,
    NORMS,
    POINTWISE,
    POOL_FORWARD,
    ROWS,
    WEIGHT,
    Sample,
    frozen,
    normal,
    pool_gradients,
    steps,
)

from pycnn import ops

BOUNDS = (tolerance, tolerance_arithmetic, tolerance_row_norm, tolerance_windows)


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
        if self.name.endswith("max_pool2d"):
            function = functools.partial(function, return_indices=True)
        if out is not None:
            options = {**options, "out": out if len(out) > 1 else out[0]}
        result = function(*arrays, **options)
        return tuple(result) if isinstance(result, (tuple, list)) else (result,)

    def floats(self):
        """The names of the float32 arrays."""
        first = next(iter(self.samples.values()))
        pairs = zip(self.arrays, first.arrays, strict=True)
        return [name for name, array in pairs if array.dtype == np.float32]

    def expected(self, sample):
        """[(exact, bound)] of each result."""
        exact = getattr(reference, self.name)(*sample.arrays, **sample.options)
        bounds = [getattr(module, self.name, None) for module in BOUNDS]
        bound = next(filter(None, bounds), tolerance.exact)(*sample.arrays, **sample.options)
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
        if isinstance(result, float):
            assert np.ndim(exact) == 0, f"{what}: one number for {np.shape(exact)}"
        else:
            assert result.dtype == kind, f"{what}: {result.dtype}"
        tolerance.assert_within(result, exact, bound, what)


_COLOURS = frozen(np.random.default_rng(3).standard_normal((3, 7, 19, 3), np.float32))
_MEANS = {"mean": (0.1, -0.2, 0.3), "std": (1.0, 0.5, 2.0)}
_EPOCH = {"seed": 5, "epoch": 2}
_AFFINE = {"shift": 1.5, "rotation": 30.0, "scale": 0.2, "shear": 0.3}

_ALL = [
    Operator(
        "conv2d", ("x", "weight", "bias"), FORWARD, images=("x",), batch=("x",), image_result=True
    ),
    Operator(
        "conv2d_backward_input",
        ("dy", "weight"),
        INPUT,
        images=("dy",),
        batch=("dy",),
        image_result=True,
    ),
    Operator("conv2d_backward_weight", ("x", "dy"), WEIGHT, images=("x", "dy"), batch=("x", "dy")),
    Operator("conv2d_backward_bias", ("dy",), BIAS, images=("dy",), batch=("dy",)),
    Operator("max_pool2d", ("x",), POOL_FORWARD, images=("x",), batch=("x",), image_result=True),
    Operator(
        "max_pool2d_backward",
        ("dy", "indices"),
        pool_gradients(True),
        images=("dy", "indices"),
        batch=("dy", "indices"),
        image_result=True,
    ),
    Operator(
        "avg_pool2d",
        ("x",),
        {
            **POOL_FORWARD,
            "count_pad": Sample((normal(2, 5, 4, 3),), COUNT_PAD),
        },
        images=("x",),
        batch=("x",),
        image_result=True,
    ),
    Operator(
        "avg_pool2d_backward",
        ("dy",),
        {
            **pool_gradients(False),
            "count_pad": Sample((normal(2, 3, 2, 3),), {"input_shape": (2, 5, 4, 3), **COUNT_PAD}),
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
        "linear",
        ("x", "weight", "bias"),
        {
            "plain": Sample((normal(7, 11), normal(11, 18), normal(18))),
            "leaky": Sample(
                (normal(3, 40), normal(40, 5), normal(5)), {"activation": ("leaky_relu", 0.1)}
            ),
        },
        batch=("x",),
    ),
    Operator(
        "relu",
        ("x",),
        {key: Sample((normal(*shape),)) for key, shape in ROWS.items()},
        batch=("x",),
        in_place=("x",),
    ),
    Operator(
        "relu_backward",
        ("dy", "y"),
        {
            key: Sample((normal(*shape), frozen(np.maximum(normal(*shape), 0))))
            for key, shape in ROWS.items()
        },
        batch=("dy", "y"),
        in_place=("dy",),
    ),
    *(
        Operator(
            name,
            ("x",),
            {key: Sample((frozen(3 * normal(*shape)),)) for key, shape in ROWS.items()},
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
                for key, shape in ROWS.items()
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
        LOSSES,
        batch=("logits", "labels"),
        has_out=False,
    ),
    *(
        Operator(name, ("outputs", "targets"), samples, batch=("outputs", "targets"), has_out=False)
        for name, samples in POINTWISE.items()
    ),
    Operator(
        "add_bias",
        ("y", "bias"),
        {
            key: Sample((normal(*shape), normal(shape[-1])))
            for key, shape in sorted(ROWS.items(), key=lambda row: len(row[1]))  # one axis first
        },
        updated=("y",),
        has_out=False,
    ),
    Operator(
        "accumulate",
        ("total", "part"),
        {key: Sample((normal(*shape), normal(*shape))) for key, shape in ROWS.items()},
        batch=("total", "part"),
        updated=("total",),
        has_out=False,
    ),
    *op_rows_arithmetic.rows(Operator),
    *op_moves.rows(Operator),
    *op_rows_norm.rows(Operator),
    Operator(
        "adam_step",
        ("param", "grad", "m", "v"),
        steps(
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
        steps(
            3,
            {"lr": 0.1},
            {"lr": 0.1, "momentum": 0.9},
            {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
        ),
        updated=("param", "velocity"),
        has_out=False,
    ),
    Operator(
        "rmsprop_step",
        ("param", "grad", "square", "buffer"),
        {
            key: Sample((*s.arrays[:2], s.arrays[3], s.arrays[2]), s.options)
            for key, s in steps(
                4,
                {"lr": 0.1},
                {"lr": 0.1, "alpha": 0.9, "momentum": 0.9, "eps": 1e-3},
                {"lr": 0.01, "weight_decay": 0.01},
            ).items()
        },
        updated=("param", "square", "buffer"),
        has_out=False,
    ),
    Operator("batch_norm", ("x", "weight", "bias"), NORMS),
    Operator(
        "batch_norm_inference",
        ("x", "weight", "bias", "mean", "var"),
        NORM_INFERENCE,
        batch=("x",),
        in_place=("x",),
    ),
    Operator(
        "batch_norm_backward",
        ("dy", "x", "weight", "bias", "mean", "var"),
        NORM_GRADIENTS,
        in_place=("dy",),
    ),
    Operator(
        "dropout",
        ("x",),
        {
            "wide": Sample((normal(3, 70),), {"p": 0.25, "seed": 2**64 - 1}),
            "narrow": Sample((normal(5, 7),), {"p": 0.5, "seed": 7, "calls": 2**40 + 1}),
            "one": Sample((normal(1),), {"p": 0.0, "seed": 0}),
        },
        batch=("x",),
        in_place=("x",),
    ),
    Operator(
        "global_avg_pool2d",
        ("x",),
        {"lecture": Sample((normal(2, 7, 5, 17),)), "pixel": Sample((normal(3, 1, 1, 4),))},
        images=("x",),
        batch=("x",),
    ),
    Operator(
        "global_avg_pool2d_backward",
        ("dy",),
        {"lecture": Sample((normal(2, 17),), {"input_shape": (2, 7, 5, 17)})},
        batch=("dy",),
        image_result=True,
    ),
    *op_windows.rows(Operator),
    Operator(
        "gather_images",
        ("images", "indices"),
        {
            "bytes": Sample((BYTES, frozen(np.array([8, 0, 3, 3, 5])))),
            "scale": Sample((BYTES, frozen(np.array([1, 7]))), {"scale": 0.5}),
            "normalised": Sample((BYTES, frozen(np.array([1, 7]))), {"mean": 0.13, "std": 0.31}),
            "colours": Sample((_COLOURS, frozen(np.array([2, 0]))), _MEANS),
        },
        batch=("indices",),
    ),
    Operator(
        "augment_images",
        ("images", "indices"),
        {
            "affine": Sample((BYTES, frozen(np.array([8, 0, 3, 3, 5]))), {**_EPOCH, **_AFFINE}),
            "elastic": Sample(
                (BYTES, frozen(np.array([1, 7]))),
                {**_EPOCH, "elastic_alpha": 9.0, "elastic_sigma": 1.5, "mean": 0.13, "std": 0.31},
            ),
            "colours": Sample(
                (_COLOURS, frozen(np.array([2, 0]))), {**_EPOCH, **_AFFINE, **_MEANS, "erase": 0.5}
            ),
            "placed": Sample(
                (_COLOURS, frozen(np.array([2, 0, 1]))),
                {**_EPOCH, **_MEANS, "crop": 2, "flip": 0.5, "brightness": 0.3, "contrast": 0.4},
            ),
        },
        batch=("indices",),
    ),
]
OPERATORS = {operator.name: operator for operator in _ALL}
ROWS = [(name, key) for name, operator in OPERATORS.items() for key in operator.samples]

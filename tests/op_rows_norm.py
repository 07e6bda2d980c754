"""The rows of layer, group and local response normalisation, for `op_table.py`."""

import numpy as np
import reference
from op_samples import Sample, frozen, normal

# Remainders of rows that go together and of vectors; one channel; slots of rows.
LAYER_SHAPES = ((2, 7, 5, 17), (7, 48), (3, 3, 1), (2, 301, 70), (5, 130))
# Channels that share a vector, chunks of rows, groups of one channel and of all.
GROUP_SHAPES = (
    ((2, 7, 5, 18), 3),
    ((3, 4, 5, 8), 2),
    ((2, 3, 3, 4), 4),
    ((2, 19, 17, 48), 1),
    ((5, 12), 4),
    ((2, 30, 21, 16), 16),
)
RESPONSES = (
    ((2, 3, 2, 37), {"size": 5, "alpha": 0.3}),
    ((5, 9), {"size": 4, "alpha": 0.5, "beta": 0.5, "k": 2.0}),
    ((3, 4), {"size": 9, "alpha": 1.0, "beta": 1.3}),
    ((2, 16), {"size": 1, "alpha": 2.0}),
)


def _vectors(C):
    return normal(C), normal(C)


def _shifted(shape):
    """A mean of some deviations."""
    return frozen(2 * normal(*shape) + 3)


def _layer_gradients():
    for shape in LAYER_SHAPES:
        x, weight = _shifted(shape), normal(shape[-1])
        kept = frozen(np.float32(reference.layer_norm(x, weight)[1]))
        yield f"{shape}", Sample((normal(*shape), x, weight, kept))


def _group_gradients():
    for shape, groups in GROUP_SHAPES:
        x, weight = _shifted(shape), normal(shape[-1])
        kept = frozen(np.float32(reference.group_norm(x, weight, 0.0, groups)[1]))
        yield f"{shape}", Sample((normal(*shape), x, weight, kept), {"num_groups": groups})


def rows(operator):
    """The rows, made by the class `Operator`."""
    group = {
        f"{s}": Sample((_shifted(s), *_vectors(s[-1])), {"num_groups": g}) for s, g in GROUP_SHAPES
    }
    return [
        operator(
            "layer_norm",
            ("x", "weight", "bias"),
            {f"{s}": Sample((_shifted(s), *_vectors(s[-1]))) for s in LAYER_SHAPES},
            in_place=("x",),
        ),
        operator(
            "layer_norm_backward",
            ("dy", "x", "weight", "kept"),
            dict(_layer_gradients()),
            in_place=("dy",),
        ),
        operator("group_norm", ("x", "weight", "bias"), group, in_place=("x",)),
        operator(
            "group_norm_backward",
            ("dy", "x", "weight", "kept"),
            dict(_group_gradients()),
            in_place=("dy",),
        ),
        operator(
            "local_response_norm",
            ("x",),
            {f"{s}": Sample((normal(*s),), options) for s, options in RESPONSES},
            batch=("x",),
            in_place=("x",),
        ),
        operator(
            "local_response_norm_backward",
            ("dy", "x"),
            {f"{s}": Sample((normal(*s), normal(*s)), options) for s, options in RESPONSES},
            batch=("dy", "x"),
            in_place=("dy",),
        ),
    ]

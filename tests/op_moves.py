"""Rows of `op_table.py` and `bad_inputs.py` of operators that move and resample; their bounds."""

import numpy as np
from op_samples import Sample, normal
from resize_reference import matrices, rim

IMAGES = {"images": ("x",), "batch": ("x",), "image_result": True}
RESIZED = {
    "nearest": {"scale": 2},
    "bilinear": {"size": (7, 4), "mode": "bilinear"},
    "bicubic": {"scale": (1.3, 0.6), "mode": "bicubic", "coordinates": "asymmetric"},
}
_LIMIT = r"2\*\*31"


def _sums(array, rows, columns):
    return np.einsum("ph,qw,nhwc->npqc", rows, columns, np.abs(array), optimize=True)


def _bound(array, rows, columns):
    """Of a sum of products: three roundings of a weight, and the sum's own.

    A weight itself is made in float64 from a place among the pixels: a dozen roundings of numbers
    below 16.
    """
    rows, columns = np.abs(rows), np.abs(columns)
    taps = np.count_nonzero(rows, axis=1).max() * np.count_nonzero(columns, axis=1).max()
    k = (taps + 4) * float(np.finfo(array.dtype).eps)
    some = _sums(array, (rows != 0) * 1.0, (columns != 0) * 1.0)
    return k * _sums(array, rows, columns) + 200 * 2.0**-53 * some


def resize_bound(x, **options):
    return _bound(x, *matrices(x.shape, **options))


def resize_backward_bound(dy, input_shape, **options):
    return _bound(dy, *(m.T for m in matrices(input_shape, **options)))


def pad_backward_bound(dy, input_shape, padding, mode):
    pairs = zip(input_shape[1:3], padding, strict=True)
    if mode == "constant":
        return 0.0
    return _bound(dy, *(rim(n, *pair, mode).T for n, pair in pairs))


def rows(Operator):
    x = normal(2, 4, 6, 17)
    sides = ((1, 0), (2, 3))
    return [
        Operator(
            "split",
            ("x",),
            {
                "images": Sample((normal(2, 7, 5, 17),), {"sizes": [3, 13, 1]}),
                "one_axis": Sample((normal(40),), {"sizes": (16, 24)}),
                "rows": Sample((x,), {"sizes": (3, 1), "axis": 1}),
            },
            batch=("x",),
        ),
        Operator(
            "slice_axis",
            ("x",),
            {
                "channels": Sample((x,), {"start": 2, "stop": 11}),
                "back": Sample((x,), {"start": None, "stop": -6, "step": -3}),
                "rows": Sample((x,), {"start": 1, "step": 2, "axis": 1}),
                "columns": Sample((x,), {"start": -2, "axis": 2}),
            },
            batch=("x",),
        ),
        Operator(
            "permute",
            ("x",),
            {
                "nchw": Sample((x,), {"axes": [0, 3, 1, 2]}),
                "nhwc": Sample((x,), {"axes": (0, 2, 3, 1)}),
                "five": Sample((normal(2, 3, 4, 5, 6),), {"axes": (0, 4, 2, 1, 3)}),
                "two": Sample((normal(37, 41),), {"axes": (1, 0)}),
            },
        ),
        Operator(
            "channel_shuffle",
            ("x",),
            {
                "images": Sample((normal(2, 4, 3, 12),), {"groups": 3}),
                "many": Sample((normal(2, 4, 3, 60),), {"groups": 20}),
            },
            **IMAGES,
        ),
        Operator(
            "pad",
            ("x",),
            {
                "images": Sample((x,), {"padding": sides, "value": -1.5}),
                "channels": Sample((x,), {"padding": [(0, 0), (1, 1), (2, 1)]}),
                "reflect": Sample((x,), {"padding": sides, "mode": "reflect"}),
            },
            **IMAGES,
        ),
        Operator(
            "pad_backward",
            ("dy",),
            {
                mode: Sample(
                    (normal(2, 5, 11, 17),),
                    {"input_shape": (2, 4, 6, 17), "padding": sides, "mode": mode},
                )
                for mode in ("reflect", "edge", "wrap", "constant")
            },
            images=("dy",),
            batch=("dy",),
            image_result=True,
        ),
        Operator(
            "dropout2d",
            ("x",),
            {
                "images": Sample((x,), {"p": 0.25, "seed": 2**64 - 1}),
                "many": Sample((normal(7, 2, 3, 5),), {"p": 0.5, "seed": 7, "calls": 2**40 + 1}),
            },
            in_place=("x",),
            **IMAGES,
        ),
        Operator(
            "resize",
            ("x",),
            {key: Sample((x,), how) for key, how in RESIZED.items()},
            **IMAGES,
        ),
        Operator(
            "resize_backward",
            ("dy",),
            {
                key: Sample(
                    (normal(2, *(len(m) for m in matrices(x.shape, **how)), 17),),
                    {"input_shape": x.shape, **how},
                )
                for key, how in RESIZED.items()
            },
            images=("dy",),
            batch=("dy",),
            image_result=True,
        ),
        Operator(
            "crop",
            ("x",),
            {
                "images": Sample((x,), {"padding": sides}),
                "channels": Sample((x,), {"padding": [(1, 0), (0, 0), (3, 5)]}),
            },
            **IMAGES,
        ),
        *(
            Operator(
                name,
                ("x",),
                {
                    mode: Sample((normal(*shape),), {"block": block, "mode": mode})
                    for mode, block in (("DCR", 2), ("CRD", 3))
                },
                **IMAGES,
            )
            for name, shape in (
                ("depth_to_space", (2, 2, 3, 36)),
                ("space_to_depth", (2, 6, 12, 5)),
            )
        ),
    ]


def bad(Bad):
    _no_axis = Bad({"x": normal(1)[0]}, ValueError, ("x", "no axes"))
    block = {
        "block_0": Bad({"block": 0}, ValueError, ("block", "0", "an int from 1")),
        "mode": Bad({"mode": "dcr"}, ValueError, ("mode", "'dcr'", "DCR", "CRD")),
        "three_axes": Bad({"x": normal(2, 3, 4)}, ValueError, ("x", "3 axes", r"\[N, H, W, C\]")),
    }
    sides = {
        "three_numbers": Bad({"padding": ((1, 2, 3), (0, 0))}, ValueError, ("padding", "1, 2, 3")),
        "negative": Bad({"padding": ((1, -1), (0, 0))}, ValueError, ("padding", "-1", "from 0")),
        "number": Bad({"padding": 1}, ValueError, ("padding", "1", "top, bottom")),
        "one_axis": Bad({"padding": ((1, 1),)}, ValueError, ("padding", r"\(\(1, 1\),\)", "axis")),
    }
    resizing = {
        "neither": Bad({"scale": None}, ValueError, ("size and scale", "one of them")),
        "scale_0": Bad({"scale": 0.0}, ValueError, ("scale", "0.0", "above 0")),
        "scale_small": Bad({"scale": 0.2}, ValueError, ("scale", "0.2", "4 x 6")),
        "scale_huge": Bad({"scale": 1e10}, ValueError, ("scale", "1 to", _LIMIT)),
        "size_0": Bad({"size": (0, 3)}, ValueError, ("size", r"\(0, 3\)", "from 1")),
        "size_text": Bad({"size": "8"}, ValueError, ("size", "'8'", "ints")),
        "mode": Bad({"mode": "linear"}, ValueError, ("mode", "'linear'", "bilinear")),
        "coordinates": Bad({"coordinates": None}, ValueError, ("coordinates", "None", "corners")),
        "nearest": Bad({"nearest": "up"}, ValueError, ("nearest", "'up'", "ceil")),
    }
    return {
        "split": {
            "sum": Bad({"sizes": [3, 13]}, ValueError, ("sizes", "16", "17", "axis 3")),
            "negative": Bad({"sizes": [20, -3]}, ValueError, (r"sizes\[1\]", "-3", "0 to")),
            "float": Bad({"sizes": [16.0, 1]}, ValueError, (r"sizes\[0\]", "16.0", "int")),
            "huge": Bad({"sizes": [2**63, 1]}, ValueError, (r"sizes\[0\]", str(2**63), _LIMIT)),
            "number": Bad({"sizes": 17}, TypeError, ("sizes", "an int", "list")),
            "axis": Bad({"axis": 4}, ValueError, ("axis", "4", "from -4 to 3")),
            "axis_low": Bad({"axis": -5}, ValueError, ("axis", "-5", "from -4 to 3")),
            "fewer_out": Bad({"out": [None]}, ValueError, ("out", "1 arrays", "3 sizes")),
            "out_text": Bad({"out": [None, "x", None]}, TypeError, (r"out\[1\]", "a str")),
        },
        "slice_axis": {
            "nothing": Bad({"start": 17, "stop": None}, ValueError, ("start", "17", "nothing")),
            "step_0": Bad({"step": 0}, ValueError, ("step", "0")),
            "start_float": Bad({"start": 1.0}, ValueError, ("start", "1.0", "None")),
            "stop_text": Bad({"stop": "end"}, ValueError, ("stop", "'end'", "None")),
            "axis": Bad({"axis": "C"}, ValueError, ("axis", "'C'", "from -4 to 3")),
        },
        "permute": {
            "twice": Bad({"axes": (0, 1, 1, 2)}, ValueError, ("axes", r"0, 1, 1, 2", "once")),
            "fewer": Bad({"axes": (0, 1, 2)}, ValueError, ("axes", r"0, 1, 2", r"0 \.\. 3")),
            "negative": Bad({"axes": (0, -1, 1, 2)}, ValueError, ("axes", "-1")),
            "number": Bad({"axes": 3}, ValueError, ("axes", "3", "list")),
        },
        "channel_shuffle": {
            "groups": Bad({"groups": 5}, ValueError, ("groups", "5", "12", "multiple")),
            "groups_0": Bad({"groups": 0}, ValueError, ("groups", "0")),
        },
        "pad": {
            **sides,
            "mode": Bad({"mode": "mirror"}, ValueError, ("mode", "'mirror'", "constant")),
            "value": Bad({"value": None}, TypeError, ("value", "None", "number")),
            "huge": Bad({"padding": ((2**31, 0), (0, 0))}, ValueError, ("padding", _LIMIT)),
            "memory": Bad({"padding": ((2**31 - 1,) * 2,) * 2}, ValueError, ("shape", "memory")),
        },
        "pad_backward": {
            "mode": Bad({"mode": "mirror"}, ValueError, ("mode", "'mirror'", "constant")),
            "other": Bad({"dy": normal(2, 4, 11, 17)}, ValueError, ("dy", "2, 4, 11", "2, 5, 11")),
            "rank": Bad({"input_shape": (4, 6, 17)}, ValueError, ("input_shape", "4, 6, 17")),
            "huge": Bad({"padding": ((2**31, 0), (0, 0))}, ValueError, ("padding", _LIMIT)),
        },
        "dropout2d": {
            "p_1": Bad({"p": 1.0}, ValueError, ("p is 1.0", "0 <= p < 1")),
            "seed_negative": Bad({"seed": -1}, ValueError, ("seed", "-1", r"2\*\*64")),
            "calls_huge": Bad({"calls": 2**64}, ValueError, ("calls", str(2**64))),
        },
        "resize": resizing,
        "resize_backward": {
            **resizing,
            "other": Bad({"dy": normal(2, 8, 11, 17)}, ValueError, ("dy", "2, 8, 11", "2, 8, 12")),
        },
        "crop": {
            **sides,
            "nothing": Bad({"padding": ((2, 2), (0, 0))}, ValueError, ("padding", "at least one")),
        },
        "depth_to_space": {
            **block,
            "channels": Bad({"block": 5}, ValueError, ("C = 36", "25")),
        },
        "space_to_depth": {
            **block,
            "pixels": Bad({"block": 4}, ValueError, ("x", "2, 6, 12, 5", "block = 4")),
        },
    }

"""The rows of arithmetic, sums and powers, for `op_table.py`."""

import numpy as np
from op_samples import ROWS, Sample, frozen, normal

_RELU = {"activation": "relu"}
_GATE = (2, 5, 4, 19), (2, 1, 1, 19)


def positive(*shape):
    return frozen(np.abs(normal(*shape)) + np.float32(0.5))


def _pairs(name):
    second = positive if name == "divide" else normal
    samples = {key: Sample((normal(*shape), second(*shape))) for key, shape in ROWS.items()}
    samples["gate"] = Sample((normal(*_GATE[0]), second(*_GATE[1])))
    samples["channels_first"] = Sample((normal(19), second(*_GATE[0])))
    if name == "add":
        samples["relu"] = Sample((normal(3, 70), normal(3, 70)), _RELU)
        samples["gate_relu"] = Sample((normal(*_GATE[0]), normal(*_GATE[1])), _RELU)
    return samples


def rows(operator):
    """The rows, made by the class `Operator`."""
    return [
        *(
            operator(name, ("a", "b"), _pairs(name), batch=("a", "b"), in_place=("a", "b"))
            for name in ("add", "subtract", "multiply", "divide")
        ),
        operator(
            "affine",
            ("x",),
            {key: Sample((normal(*s),), {"scale": -1.7, "shift": 0.3}) for key, s in ROWS.items()},
            batch=("x",),
            in_place=("x",),
        ),
        operator(
            "power",
            ("x",),
            {
                f"{p}": Sample((positive(3, 37),), {"exponent": p})
                for p in (2.0, 3, -1.0, 0.5, -0.5, 1.0, 0.0, -0.75, 2.7)
            },
            batch=("x",),
            in_place=("x",),
        ),
        operator(
            "power_backward",
            ("dy", "x"),
            {
                f"{p}": Sample((normal(3, 37), positive(3, 37)), {"exponent": p})
                for p in (2.0, 0.5, 1.0, -1.3)
            },
            batch=("dy", "x"),
            in_place=("dy", "x"),
        ),
        operator(
            "sum_to",
            ("x",),
            {
                "gate": Sample((normal(2, 5, 4, 19),), {"shape": (2, 1, 1, 19), "scale": -0.3}),
                "vector": Sample((normal(7, 5, 4, 19),), {"shape": (19,)}),
                "pixels": Sample((normal(2, 5, 4, 150),), {"shape": (2, 5, 4, 1)}),
                "slots": Sample((normal(2, 67, 40, 35),), {"shape": (2, 1, 1, 35)}),
                "long": Sample((positive(2, 40000),), {"shape": (2, 1)}),
                "two": Sample((normal(3, 5, 4, 19),), {"shape": (1, 5, 4, 1)}),
            },
        ),
    ]

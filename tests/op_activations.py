"""Rows of op_table.py for activations: (name, arrays, samples) and what else `Operator` takes."""

import numpy as np
from op_samples import Sample, frozen, normal

# Of each but relu: options of one sample; numbers that float32 holds.
ACTIVATIONS = {
    "relu6": {},
    "clip": {"low": 0.25, "high": 1.0},
    "leaky_relu": {"slope": 0.125},
    "elu": {"alpha": 0.5},
    "hard_sigmoid": {"slope": 0.25, "shift": -0.125},
    "hard_swish": {},
    "sigmoid": {},
    "silu": {},
    "tanh": {},
    "gelu": {},
    "gelu_tanh": {},
    "softplus": {"beta": 2.0, "threshold": 1.0},
    "exp": {},
    "erf": {},
    "sqrt": {},
    "abs": {},
    "log": {},
}


KINDS = ("silu", ("clip", -1.5, 2.0), ("softplus", 2.0, 3.0), "relu6", ("leaky_relu", -0.5))
V = frozen(3 * normal(3, 70))
ROWS = [
    (
        (
            "activation",
            ("x",),
            {str(k): Sample((frozen(3 * normal(3, 70)),), {"kind": k}) for k in KINDS},
        ),
        {"batch": ("x",), "in_place": ("x",)},
    ),
    (
        (
            "activation_backward",
            ("dy", "v"),
            {str(k): Sample((normal(3, 70), V), {"kind": k}) for k in KINDS},
        ),
        {"batch": ("dy", "v"), "in_place": ("dy", "v")},
    ),
    *(
        (
            (
                name,
                ("x",),
                {
                    "wide": Sample((frozen(3 * np.abs(normal(3, 70))),)),
                    "other": Sample((frozen(np.abs(normal(5, 7))),), options),
                },
            ),
            {"batch": ("x",), "in_place": ("x",)},
        )
        for name, options in ACTIVATIONS.items()
    ),
    (
        (
            "prelu",
            ("x", "slope"),
            {
                "channels": Sample((normal(4, 3, 37), normal(37))),
                "one": Sample((normal(9, 16), normal(1))),
            },
        ),
        {"batch": ("x",), "in_place": ("x",)},
    ),
    (
        (
            "prelu_backward",
            ("dy", "x", "slope"),
            {
                "channels": Sample((normal(40, 3, 37), normal(40, 3, 37), normal(37))),
                "one": Sample((normal(9, 16), normal(9, 16), normal(1))),
            },
        ),
        {"in_place": ("dy",)},
    ),
]

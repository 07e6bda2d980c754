"""What arithmetic, sums and powers refuse: part of `bad_inputs.py`."""

import numpy as np
from op_samples import normal


def bad(Bad):
    """The entries, made by the class `Bad`."""
    shape = Bad({"b": normal(10, 5)}, ValueError, ("b", "10, 5", "5, 10", "as a"))
    other = {
        "shape": shape,
        "out": Bad({"out": normal(5, 9)}, ValueError, ("out", "5, 9", "5, 10")),
    }
    exponents = {
        "nan": Bad({"exponent": np.nan}, ValueError, ("exponent", "nan", "finite")),
        "text": Bad({"exponent": "2"}, ValueError, ("exponent", "'2'", "number")),
    }
    return {
        "add": {
            **other,
            "activation": Bad({"activation": "Relu"}, ValueError, ("activation", "Relu", "tanh")),
            "activation_array": Bad(
                {"activation": np.array(["relu"])}, ValueError, ("activation", "array")
            ),
        },
        "affine": {
            "scale_nan": Bad({"scale": np.nan}, ValueError, ("scale", "nan", "finite")),
            "scale_text": Bad({"scale": "2"}, ValueError, ("scale", "'2'", "number")),
            "shift_huge": Bad({"shift": 1e39}, ValueError, ("shift", r"1e\+39", "x's type")),
            "shift_array": Bad({"shift": np.ones(2)}, ValueError, ("shift", "array", "number")),
        },
        "subtract": other,
        "multiply": other,
        "divide": other,
        "power": exponents,
        "power_backward": {
            **exponents,
            "dy_shape": Bad({"dy": normal(3, 36)}, ValueError, ("dy", "3, 36", "3, 37")),
        },
        "sum_to": {
            "extent": Bad({"shape": (2, 5, 4, 18)}, ValueError, ("5, 4, 18", "5, 4, 19", "1")),
            "rank": Bad({"shape": (1, 2, 1, 1, 19)}, ValueError, ("1, 2, 1, 1, 19", "axes of x")),
            "shape_text": Bad({"shape": "NC"}, ValueError, ("shape", "'NC'", "tuple")),
            "op": Bad({"op": "plus"}, ValueError, ("op", "'plus'", "multiply")),
            "scale": Bad({"scale": np.inf}, ValueError, ("scale", "inf", "finite")),
            "other": Bad({"other": normal(3, 1)}, ValueError, ("other", "3, 1", "5, 4, 19")),
            "other_none": Bad({"other": "x"}, TypeError, ("other", "a str", "array")),
            "out": Bad({"out": normal(2, 19)}, ValueError, ("out", "2, 19", "2, 1, 1, 19")),
        },
    }

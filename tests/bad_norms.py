"""What layer, group and local response normalisation refuse: part of `bad_inputs.py`."""

import numpy as np
from op_samples import normal


def bad(Bad):
    """The entries, made by the class `Bad`; the first samples have 17 and 18 channels."""
    eps = {"eps_0": Bad({"eps": 0.0}, ValueError, ("eps", "0.0", "above 0"))}
    axes = {
        "one_axis": Bad({"x": normal(17)}, ValueError, ("x", r"\(17,\)", "two axes")),
        "no_channel": Bad({"x": normal(3, 0)}, ValueError, ("x", "0", "channel")),
    }
    gradients = {
        "dy_shape": Bad({"dy": normal(2, 7, 4, 17)}, ValueError, ("dy", "2, 7, 4, 17", "as x")),
        "kept_shape": Bad({"kept": normal(3, 2)}, ValueError, ("kept", "3, 2")),
        "two_out": Bad({"out": (normal(1), normal(1))}, TypeError, ("out", "tuple", "dweight")),
        "no_out": Bad({"out": (None, None, None)}, TypeError, (r"out\[0\]", "None", "array")),
    }
    groups = {
        "groups_5": Bad({"num_groups": 5}, ValueError, ("num_groups", "5", "divisor", "18")),
        "groups_0": Bad({"num_groups": 0}, ValueError, ("num_groups", "0", "1")),
    }
    response = {
        "size_0": Bad({"size": 0}, ValueError, ("size", "0", "1")),
        "size_float": Bad({"size": 5.0}, ValueError, ("size", "5.0", "int")),
        "alpha": Bad({"alpha": -1}, ValueError, ("alpha", "-1", "0 or more")),
        "beta": Bad({"beta": np.nan}, ValueError, ("beta", "nan", "finite")),
        "k": Bad({"k": "1"}, ValueError, ("k", "'1'", "number")),
        "no_channel": Bad({"x": normal(3, 0)}, ValueError, ("x", "0", "channel")),
    }
    return {
        "layer_norm": {
            **axes,
            **eps,
            "weight_length": Bad({"weight": normal(16)}, ValueError, ("weight", "16", "17")),
            "bias_length": Bad({"bias": normal(18)}, ValueError, ("bias", "18", "17")),
            "out_one": Bad({"out": (normal(1),)}, TypeError, ("out", "tuple", "kept")),
        },
        "layer_norm_backward": gradients,
        "group_norm": {
            **axes,
            **eps,
            **groups,
            "weight_length": Bad({"weight": normal(17)}, ValueError, ("weight", "17", "18")),
        },
        "group_norm_backward": {
            **groups,
            "dy_shape": Bad({"dy": normal(2, 7, 4, 18)}, ValueError, ("dy", "2, 7, 4", "as x")),
            "kept_shape": Bad({"kept": normal(2, 2, 2)}, ValueError, ("kept", "2, 2, 2", "3")),
        },
        "local_response_norm": response,
        "local_response_norm_backward": {
            **response,
            "dy_shape": Bad({"dy": normal(2, 3, 1, 37)}, ValueError, ("dy", "2, 3, 1, 37", "as x")),
        },
    }

"""What each operator refuses: a change of its first sample, the exception and what it must say.

A message is a sentence for people: it names the argument, what came and what was expected. Each
word is a regular expression, and all must occur. Wrong types and ranks are the same for all: see
test_errors.py.
"""

import bad_arithmetic
import bad_norms
import numpy as np
import op_moves
import op_windows
from bad_losses import LOSSES_BAD, Bad, unlike
from op_table import normal

_LIMIT = r"2\*\*31 - 1"
_GEOMETRY = {
    "stride_huge": Bad({"stride": 2**31}, ValueError, ("stride", "2147483648", _LIMIT)),
    "stride_of_64_bits": Bad({"stride": (1, 2**63)}, ValueError, ("stride", "9223372036854775808")),
    "padding_huge": Bad({"padding": 2**63 - 1}, ValueError, ("padding", "9223372036854775807")),
    "padding_of_64_bits": Bad(
        {"padding": ((0, 0), (2**64, 0))}, ValueError, ("padding", str(2**64), _LIMIT)
    ),
    "stride_array": Bad({"stride": np.array(2)}, ValueError, ("stride", r"array\(2\)", "pair")),
    "stride_nested": Bad(
        {"stride": [np.array([1, 2]), 1, 1, 1]}, ValueError, ("stride", r"array\(\[1, 2\]\)")
    ),
    "padding_array": Bad({"padding": np.array(1)}, ValueError, ("padding", r"array\(1\)")),
    "padding_of_three": Bad({"padding": (1, (2, 3, 4))}, ValueError, ("padding", "2, 3, 4")),
    "data_format_array": Bad(
        {"data_format": np.array(["NHWC", "NCHW"])}, ValueError, ("data_format", "array")
    ),
    "stride_0": Bad({"stride": 0}, ValueError, ("stride", "0")),
    "stride_of_three": Bad({"stride": (1, 2, 3)}, ValueError, ("stride", r"\(1, 2, 3\)")),
    "stride_over_the_batch": Bad({"stride": [2, 1, 1, 1]}, ValueError, ("stride", r"2, 1, 1, 1")),
    "padding_name": Bad({"padding": "full"}, ValueError, ("padding", "full", "same", "valid")),
    "padding_negative": Bad({"padding": -1}, ValueError, ("padding", "-1")),
    "data_format": Bad(
        {"data_format": "NCWH"}, ValueError, ("data_format", "NCWH", "NHWC", "NCHW")
    ),
}
_CONV_BAD = {
    **_GEOMETRY,
    "dilation_0": Bad({"dilation": 0}, ValueError, ("dilation", "0")),
    "dilation_huge": Bad(
        {"dilation": 2**63 - 1, "padding": "same"}, ValueError, ("dilation", str(2**63 - 1), _LIMIT)
    ),
    "groups_of_64_bits": Bad({"groups": 2**63}, ValueError, ("groups", str(2**63), _LIMIT)),
    "algorithm_none": Bad({"algorithm": None}, ValueError, ("algorithm", "None", "auto", "direct")),
    "groups_0": Bad({"groups": 0}, ValueError, ("groups", "0")),
    "groups_that_cut_a_channel": Bad({"groups": 2}, ValueError, ("groups", "2", "3")),
    "algorithm": Bad(
        {"algorithm": "fft"}, ValueError, ("algorithm", "fft", "auto", "naive", "im2col", "direct")
    ),
}


def _five_by_five(**shape):
    """Winograd's transforms are for 3 x 3 kernels."""
    return Bad({"algorithm": "winograd", **shape}, ValueError, ("winograd",))


def _lists(*names):
    """What is updated must be an array: a copy of a list would be updated and lost."""
    return {
        f"{name}_list": Bad({name: [[1.0, 2.0]]}, TypeError, (name, "list", "array"))
        for name in names
    }


_PIXELS = {  # of gather_images and augment_images
    "images_double": Bad(
        {"images": normal(9, 4, 3, 1).astype(np.float64)},
        TypeError,
        ("images", "float64", "uint8", "float32"),
    ),
    "images_int": Bad({"images": np.zeros((9, 4, 3, 1), int)}, TypeError, ("images", "int64")),
    "indices_float": Bad({"indices": normal(3)}, TypeError, ("indices", "float32", "int")),
    "indices_rank": Bad({"indices": np.zeros((2, 2), int)}, ValueError, ("indices", "2")),
    "mean_nan": Bad({"mean": np.nan}, ValueError, ("mean", "nan", "finite")),
    "mean_text": Bad({"mean": "x"}, TypeError, ("mean", "'x'", "number")),
    "mean_channels": Bad(
        {"mean": (0.1, 0.2)}, ValueError, (r"mean", r"\(2,\)", r"\(1,\)", "channel")
    ),
    "mean_huge": Bad({"mean": 1e39}, ValueError, ("mean", r"1e\+39", "float32")),
    "std_0": Bad({"std": 0.0}, ValueError, ("std", "0.0", "above 0")),
    "std_negative": Bad({"std": (-1.0,)}, ValueError, ("std", "-1.0", "above 0")),
    "std_tiny": Bad({"std": 1e-50}, ValueError, ("std", "1e-50", "float32")),
}

_NO_ROW = {
    "no_axis": Bad({"x": np.array(1, np.float32)}, ValueError, ("x", "ax[ei]s")),
    "no_class": Bad({"x": normal(3, 0)}, ValueError, ("x", "0")),
}
_NORM_BAD = {
    "weight_length": Bad({"weight": normal(16)}, ValueError, ("weight", "16", "17", r"\[C\]")),
    "bias_length": Bad({"bias": normal(18)}, ValueError, ("bias", "18", "17")),
    "one_axis": Bad({"x": normal(17)}, ValueError, ("x", r"\(17,\)", "two axes")),
    "no_channel": Bad({"x": normal(3, 0)}, ValueError, ("x", "0", "channel")),
    "eps_0": Bad({"eps": 0.0}, ValueError, ("eps", "0.0", "above 0")),
    "activation": Bad({"activation": "tanh"}, ValueError, ("activation", "tanh", "relu")),
}
_OTHER_SHAPE = {"shape": Bad({"y": normal(5, 9)}, ValueError, ("y", r"5, 9", "10"))}


BAD = {
    "conv2d": {
        **_CONV_BAD,
        "channels": Bad({"weight": normal(3, 3, 4, 17)}, ValueError, ("weight", "4", "3")),
        "bias_length": Bad({"bias": normal(16)}, ValueError, ("bias", "16", "17", "OC")),
        "groups_that_cut_a_filter": Bad({"groups": 3}, ValueError, ("groups", "3")),
        "winograd": _five_by_five(weight=normal(5, 5, 3, 17)),
        "activation": Bad({"activation": "swish"}, ValueError, ("activation", "swish", "relu")),
        "activation_array": Bad(
            {"activation": np.array(["relu", "relu"])}, ValueError, ("activation", "array", "relu")
        ),
        "result_too_large": Bad(
            {"padding": 2**31 - 1}, ValueError, ("shape", str(2**32 + 3), "memory", "padding")
        ),
        "kernel_too_large": Bad(
            {"weight": normal(8, 3, 3, 17), "padding": "valid"}, ValueError, ("8", "7")
        ),
    },
    "conv2d_backward_input": {
        **_CONV_BAD,
        "winograd": _five_by_five(weight=normal(5, 5, 3, 17)),
        "input_rank": Bad({"input_shape": (7, 5, 3)}, ValueError, ("input_shape", r"7, 5, 3")),
        "input_of_64_bits": Bad(
            {"input_shape": (2, 2**63, 5, 3)}, ValueError, ("input_shape", str(2**63), _LIMIT)
        ),
        "channels": Bad({"input_shape": (2, 7, 5, 4)}, ValueError, ("weight", "3", "4")),
        "other_output": Bad({"dy": normal(2, 6, 5, 17)}, ValueError, ("dy", "6", "7")),
        "other_batch": Bad({"dy": normal(3, 7, 5, 17)}, ValueError, ("dy", "3", "2")),
    },
    "conv2d_backward_weight": {
        **_CONV_BAD,
        "winograd": _five_by_five(weight_shape=(5, 5, 3, 17)),
        "weight_rank": Bad({"weight_shape": (3, 3, 3)}, ValueError, ("weight_shape", "3, 3, 3")),
        "channels": Bad({"weight_shape": (3, 3, 4, 17)}, ValueError, ("weight", "4", "3")),
        "other_output": Bad({"dy": normal(2, 6, 5, 17)}, ValueError, ("dy", "6", "7")),
        "other_batch": Bad({"dy": normal(3, 7, 5, 17)}, ValueError, ("dy", "3", "2")),
    },
    "conv2d_backward_bias": {"data_format": _GEOMETRY["data_format"]},
    "matmul": {
        "inner_size": Bad({"b": normal(12, 18)}, ValueError, ("a", "b", "11", "12", "transpose")),
        "forgotten_transpose": Bad({"transpose_a": True}, ValueError, ("a", "7", "11")),
        "transpose_a_text": Bad({"transpose_a": "yes"}, ValueError, ("transpose_a", "yes", "True")),
        "transpose_b_none": Bad(
            {"transpose_b": None}, ValueError, ("transpose_b", "None", "True or False")
        ),
        "vector": Bad({"b": normal(11)}, ValueError, ("b", r"\(11,\)", "2")),
    },
    "linear": {
        "inner_size": Bad({"weight": normal(12, 18)}, ValueError, ("weight", "12, 18", "11, 18")),
        "bias_length": Bad({"bias": normal(17)}, ValueError, ("bias", "17", "18", "out")),
        "slope_nan": Bad(
            {"activation": ("leaky_relu", np.nan)}, ValueError, ("activation", "nan", "slope")
        ),
        "slope_missing": Bad(
            {"activation": "leaky_relu"}, ValueError, ("activation", "leaky_relu", "slope")
        ),
    },
    "relu": {},
    "relu_backward": _OTHER_SHAPE,
    **LOSSES_BAD,
    "add_bias": {
        "bias_length": Bad({"bias": normal(9)}, ValueError, ("bias", "9", "7", "C")),
        "no_axis": Bad({"y": np.array(1, np.float32)}, ValueError, ("y", "last axis")),
        **_lists("y"),
    },
    "accumulate": {
        "shape": Bad({"part": normal(10, 5)}, ValueError, ("part", "10, 5", "5, 10")),
        **_lists("total"),
    },
    **op_moves.bad(Bad),
    "adam_step": {
        **unlike("grad", "m", "v"),
        "step_0": Bad({"step": 0}, ValueError, ("step", "0", "1")),
        "beta1": Bad({"beta1": 1.0}, ValueError, ("beta1", "1.0")),
        "beta2": Bad({"beta2": -0.1}, ValueError, ("beta2", "-0.1")),
        "lr_nan": Bad({"lr": np.nan}, ValueError, ("lr", "nan")),
        "lr_text": Bad({"lr": "0.1"}, ValueError, ("lr", "'0.1'", "number")),
        "lr_huge": Bad({"lr": 10**400}, ValueError, ("lr", "000", "finite")),
        "beta1_text": Bad({"beta1": "x"}, ValueError, ("beta1", "'x'")),
        "beta2_none": Bad({"beta2": None}, ValueError, ("beta2", "None")),
        "step_huge": Bad({"step": 2**63}, ValueError, ("step", str(2**63), _LIMIT)),
        **_lists("param", "m", "v"),
    },
    "sgd_step": {
        "momentum_none": Bad({"momentum": None}, ValueError, ("momentum", "None", "number")),
        **_lists("param", "velocity"),
        **unlike("grad", "velocity"),
        "no_velocity": Bad({"velocity": None, "momentum": 0.9}, ValueError, ("velocity", "None")),
        "lr_nan": Bad({"lr": np.nan}, ValueError, ("lr", "nan")),
    },
    "rmsprop_step": {
        **unlike("grad", "square", "buffer"),
        **_lists("param", "square", "buffer"),
        "alpha": Bad({"alpha": 1.0}, ValueError, ("alpha", "1.0")),
        "eps": Bad({"eps": -1.0}, ValueError, ("eps", "-1.0")),
        "no_buffer": Bad({"buffer": None, "momentum": 0.9}, ValueError, ("buffer", "None")),
        "lr_nan": Bad({"lr": np.nan}, ValueError, ("lr", "nan")),
    },
    "batch_norm": {
        **_NORM_BAD,
        "one_row": Bad(
            {"x": normal(1, 1, 1, 17)}, ValueError, ("x", "1, 1, 1, 17", "at least two")
        ),
        "momentum": Bad({"momentum": 1.5}, ValueError, ("momentum", "1.5", "0 to 1")),
        "one_running": Bad(
            {"running_mean": normal(17)}, TypeError, ("running_mean", "running_var")
        ),
        "running_list": Bad(
            {"running_mean": [0.0] * 17, "running_var": [1.0] * 17},
            TypeError,
            ("running_mean", "list", "in place"),
        ),
        "running_shape": Bad(
            {"running_mean": np.zeros(17, np.float32), "running_var": np.ones(16, np.float32)},
            ValueError,
            ("running_var", "16", "17"),
        ),
        "running_shared": Bad(
            dict.fromkeys(("running_mean", "running_var"), np.ones(17, np.float32)),
            ValueError,
            ("running_var", "memory", "running_mean"),
        ),
    },
    "batch_norm_inference": {
        **_NORM_BAD,
        "mean_length": Bad({"mean": normal(16)}, ValueError, ("mean", "16", "17")),
        "var_length": Bad({"var": normal(1)}, ValueError, ("var", "1", "17")),
    },
    "batch_norm_backward": {
        **_NORM_BAD,
        "dy_shape": Bad({"dy": normal(2, 7, 4, 17)}, ValueError, ("dy", "2, 7, 4, 17", "as x")),
        "out_with_dx": Bad(
            {"input_gradient": False, "out": (normal(1), normal(17), normal(17))},
            TypeError,
            (r"out\[0\]", "None", "input_gradient"),
        ),
    },
    "dropout": {
        "p_1": Bad({"p": 1.0}, ValueError, ("p is 1.0", "0 <= p < 1")),
        "p_text": Bad({"p": "x"}, ValueError, ("p is 'x'",)),
        "seed_negative": Bad({"seed": -1}, ValueError, ("seed", "-1", "2\\*\\*64")),
        "seed_float": Bad({"seed": 1.0}, ValueError, ("seed", "1.0")),
        "calls_huge": Bad({"calls": 2**64}, ValueError, ("calls", str(2**64))),
    },
    "global_avg_pool2d": {
        "no_pixel": Bad({"x": normal(2, 0, 5, 17)}, ValueError, ("x", "no pixel")),
        "data_format": _GEOMETRY["data_format"],
    },
    "global_avg_pool2d_backward": {
        "input_rank": Bad({"input_shape": (7, 5, 17)}, ValueError, ("input_shape", "7, 5, 17")),
        "no_pixel": Bad({"input_shape": (2, 0, 5, 17)}, ValueError, ("input_shape", "no pixel")),
        "channels": Bad({"input_shape": (2, 7, 5, 16)}, ValueError, ("dy", "17", "16")),
        "data_format": _GEOMETRY["data_format"],
    },
    **op_windows.bad(Bad, _GEOMETRY),
    "gather_images": {
        "index_too_large": Bad({"indices": np.array([0, 9])}, IndexError, ("9", "8|9")),
        "index_negative": Bad({"indices": np.array([0, -10])}, IndexError, ("-10",)),
        "index_unsigned": Bad(
            {"indices": np.array([0, 2**64 - 2], np.uint64)},
            IndexError,
            (r"indices\[1\]", str(2**64 - 2), "9"),
        ),
        "no_image": Bad(
            {"images": np.zeros((0, 4, 3, 1), np.uint8)}, IndexError, (r"indices\[0\]", "no index")
        ),
        "scale_text": Bad({"scale": "x"}, ValueError, ("scale", "'x'", "number")),
        **_PIXELS,
    },
    "augment_images": {
        "index_too_large": Bad({"indices": np.array([0, 9])}, IndexError, ("9", "0 .. 8")),
        "index_negative": Bad({"indices": np.array([0, -1])}, IndexError, ("-1",)),
        "no_image": Bad(
            {"images": np.zeros((0, 4, 3, 1), np.uint8)}, IndexError, (r"indices\[0\]", "no index")
        ),
        "images_rank": Bad(
            {"images": np.zeros((9, 4, 3), np.uint8)}, ValueError, ("images", "4, 3", "n, H, W, C")
        ),
        "images_huge": Bad(
            {"images": np.zeros((0, 2**16, 2**16, 1), np.uint8), "indices": np.zeros(0, int)},
            ValueError,
            ("images", "65536", r"2\*\*31"),
        ),
        **_PIXELS,
        "shift_negative": Bad({"shift": -1.0}, ValueError, ("shift", "-1.0", "0 or more")),
        "shift_infinite": Bad({"shift": np.inf}, ValueError, ("shift", "inf", "finite")),
        "rotation": Bad({"rotation": 181}, ValueError, ("rotation", "181", "180")),
        "rotation_nan": Bad({"rotation": np.nan}, ValueError, ("rotation", "nan", "180")),
        "scale": Bad({"scale": 1.0}, ValueError, ("scale", "1.0", "less than 1")),
        "shear": Bad({"shear": "x"}, ValueError, ("shear", "'x'", "number")),
        "alpha": Bad({"elastic_alpha": -34}, ValueError, ("elastic_alpha", "-34", "0 or more")),
        "sigma_0": Bad({"elastic_sigma": 0}, ValueError, ("elastic_sigma", "0", "above 0")),
        "sigma_huge": Bad({"elastic_sigma": 1e9}, ValueError, ("elastic_sigma", "1000")),
        "erase": Bad({"erase": 1.01}, ValueError, ("erase", "1.01", "0 to 1")),
        "seed_negative": Bad({"seed": -1}, ValueError, ("seed", "-1", "0 to")),
        "seed_huge": Bad({"seed": 2**64}, ValueError, ("seed", str(2**64), "0 to")),
        "epoch_float": Bad({"epoch": 1.0}, TypeError, ("epoch", "1.0", "whole")),
        "epoch_bool": Bad({"epoch": True}, TypeError, ("epoch", "True", "whole")),
    },
    "softmax": _NO_ROW,
    "log_softmax": _NO_ROW,
    "softmax_backward": _OTHER_SHAPE,
    "log_softmax_backward": _OTHER_SHAPE,
    **bad_arithmetic.bad(Bad),
    **bad_norms.bad(Bad),
}

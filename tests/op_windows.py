"""Rows of `op_table.py` and `bad_inputs.py`: transposed convolution, adaptive and global pools."""

import numpy as np
import reference
from op_samples import Sample, frozen, normal, pool_gradients

_IMAGE = normal(2, 7, 5, 17)


def transposed(N, H, W, C, KH, KW, OC, **options):
    """The four arrays of one transposed convolution, and its options."""
    weight = normal(KH, KW, OC // options.get("groups", 1), C)
    spread = {key: value for key, value in options.items() if key != "groups"}
    found = reference.Spread((H, W), (KH, KW), **spread)
    x, dy = normal(N, H, W, C), normal(N, found.OH, found.OW, OC)
    return x, weight, normal(OC), dy, options


TRANSPOSED = {
    "unet": transposed(2, 3, 5, 17, 2, 2, 9, stride=2),
    "dcgan": transposed(1, 4, 3, 16, 4, 4, 3, stride=[1, 2, 2, 1], padding=1),
    "same": transposed(2, 3, 4, 5, 3, 2, 33, stride=(2, 3), padding="same"),
    "four_sided": transposed(
        2, 3, 2, 4, 2, 3, 5, stride=(3, 1), padding=((0, 1), (2, 0)), output_padding=(2, 0)
    ),
    # The last pixels of y are read by no window of the convolution whose gradient it is.
    "output_padding": transposed(2, 3, 4, 6, 3, 2, 4, dilation=(3, 2), output_padding=(2, 1)),
    "groups": transposed(2, 4, 3, 6, 3, 2, 4, groups=2, stride=(1, 2), padding=1),
    "stride_1": transposed(1, 6, 7, 16, 3, 3, 16, padding=1),
}


def rows(Operator):
    image = {"images": ("x",), "batch": ("x",)}
    forward = {k: Sample((x, w, b), o) for k, (x, w, b, _, o) in TRANSPOSED.items()}
    x, w, b, _, o = TRANSPOSED["unet"]
    forward["relu"] = Sample((x, w, b), {**o, "activation": "relu"})
    x, w, b, _, o = TRANSPOSED["groups"]
    forward["silu"] = Sample((x, w, b), {**o, "activation": "silu"})
    maps = {"upwards": (3, (9, 7)), "uneven": (17, (3, 2)), "pixel": (5, (1, 1))}
    gradients = {
        key: Sample((normal(2, *size, C),), {"input_shape": (2, 7, 5, C)})
        for key, (C, size) in maps.items()
    }
    sizes = {"uneven": (3, 2), "keeps": (None, 4), "square": 4, "upwards": (9, 8)}
    adaptive = {key: Sample((_IMAGE,), {"output_size": size}) for key, size in sizes.items()}
    return [
        Operator(
            "conv_transpose2d",
            ("x", "weight", "bias"),
            forward,
            image_result=True,
            **image,
        ),
        Operator(
            "conv_transpose2d_backward_input",
            ("dy", "weight"),
            {
                k: Sample((dy, w), {"input_shape": x.shape, **o})
                for k, (x, w, _, dy, o) in TRANSPOSED.items()
            },
            images=("dy",),
            batch=("dy",),
            image_result=True,
        ),
        Operator(
            "conv_transpose2d_backward_weight",
            ("x", "dy"),
            {
                k: Sample((x, dy), {"weight_shape": w.shape, **o})
                for k, (x, w, _, dy, o) in TRANSPOSED.items()
            },
            images=("x", "dy"),
            batch=("x", "dy"),
        ),
        Operator("adaptive_max_pool2d", ("x",), adaptive, image_result=True, **image),
        Operator(
            "adaptive_avg_pool2d",
            ("x",),
            adaptive,
            image_result=True,
            **image,
        ),
        Operator(
            "adaptive_avg_pool2d_backward",
            ("dy",),
            gradients,
            images=("dy",),
            batch=("dy",),
            image_result=True,
        ),
        Operator(
            "global_max_pool2d",
            ("x",),
            {"lecture": Sample((_IMAGE,)), "ties": Sample((frozen(np.round(_IMAGE)),))},
            **image,
        ),
    ]


def bad(Bad, geometry):
    """geometry: what strides, paddings and data_format are refused in all operators with them."""
    refused = {
        **geometry,
        "dilation_0": Bad({"dilation": 0}, ValueError, ("dilation", "0")),
        "groups_that_cut_a_channel": Bad({"groups": 2}, ValueError, ("groups", "2", "17")),
        "algorithm": Bad({"algorithm": "fft"}, ValueError, ("algorithm", "fft", "auto", "direct")),
        "output_padding": Bad({"output_padding": 2}, ValueError, ("output_padding", "2", "stride")),
        "output_padding_negative": Bad(
            {"output_padding": (0, -1)}, ValueError, ("output_padding", "-1", "from 0")
        ),
        "output_padding_of_same": Bad(
            {"output_padding": 1, "padding": "same"}, ValueError, ("output_padding", "1", "same")
        ),
        "nothing_left": Bad(
            {"padding": (3, 0)}, ValueError, (r"padding \(3, 3\)", "6 pixels", "along H")
        ),
    }
    pool = {
        "data_format": geometry["data_format"],
        "no_pixel": Bad({"x": normal(2, 0, 5, 17)}, ValueError, ("x", "0, 5, 17|no pixel")),
    }
    sizes = {
        **pool,
        "size_0": Bad({"output_size": 0}, ValueError, ("output_size", "0", r"\(OH, OW\)")),
        "size_of_three": Bad({"output_size": (1, 2, 3)}, ValueError, ("output_size", "1, 2, 3")),
        "size_float": Bad({"output_size": (2.0, None)}, ValueError, ("output_size", "2.0", "None")),
        "rank": Bad({"x": normal(7, 5, 17)}, ValueError, ("x", "7, 5, 17", "3 axes")),
    }
    windows = {
        **geometry,
        "ceil_mode": Bad({"ceil_mode": 1}, ValueError, ("ceil_mode", "1", "True or False")),
        "dilation": Bad({"dilation": (2, 0)}, ValueError, ("dilation", r"2, 0")),
        "window_0": Bad({"kernel_size": 0}, ValueError, ("kernel_size", "0")),
        "window_of_padding": Bad({"padding": 2}, ValueError, ("padding", "2")),
        "empty_window": Bad(
            {"padding": 1, "dilation": (1, 6)}, ValueError, ("dilation", r"\(2, 7\)", "no pixel")
        ),
    }
    too_large = Bad({"kernel_size": 8, "padding": "valid"}, ValueError, ("8", "5|7"))
    indices = pool_gradients(True)["lecture"].arrays[1]
    return {
        "max_pool2d": {**windows, "window_too_large": too_large},
        "max_pool2d_backward": {
            "input_rank": Bad({"input_shape": (7, 5, 17)}, ValueError, ("input_shape", "7, 5, 17")),
            "index_type": Bad({"indices": np.float32(indices)}, TypeError, ("indices", "int32")),
            "indices_shape": Bad({"indices": indices[:, :3]}, ValueError, ("indices", "3", "4")),
            "index_too_large": Bad(
                {"indices": indices + 33}, ValueError, ("indices", "3[5-9]|6[0-7]")
            ),
            "index_negative": Bad({"indices": -1 - indices}, ValueError, ("indices", "-[0-9]")),
            "no_row": Bad(
                {"input_shape": (2, 0, 5, 17)}, ValueError, ("input_shape", "2, 0, 5, 17", "row")
            ),
            "channels": Bad({"input_shape": (2, 7, 5, 16)}, ValueError, ("dy", "16", "17")),
            "data_format": geometry["data_format"],
        },
        "avg_pool2d": {**windows, "window_too_large": too_large},
        "avg_pool2d_backward": {
            **windows,
            "input_rank": Bad({"input_shape": (7, 5, 17)}, ValueError, ("input_shape", "7, 5, 17")),
            "other_output": Bad({"dy": normal(2, 4, 4, 17)}, ValueError, ("dy", r"2, 4, 4, 17")),
        },
        "conv_transpose2d": {
            **refused,
            "channels": Bad({"weight": normal(2, 2, 9, 16)}, ValueError, ("weight", "16", "17")),
            "oihw": Bad(
                {"weight": normal(17, 9, 2, 2)}, ValueError, ("weight", r"transpose\(2, 3, 1, 0\)")
            ),
            "bias_length": Bad({"bias": normal(17)}, ValueError, ("bias", "17", "9", "OC")),
            "winograd": Bad({"algorithm": "winograd"}, ValueError, ("winograd",)),
            "result_too_large": Bad({"stride": 2**31 - 1}, ValueError, ("shape", "memory")),
        },
        "conv_transpose2d_backward_input": {
            **refused,
            "input_rank": Bad({"input_shape": (3, 5, 17)}, ValueError, ("input_shape", "3, 5, 17")),
            "other_output": Bad({"dy": normal(2, 5, 10, 9)}, ValueError, ("dy", "5", "6")),
        },
        "conv_transpose2d_backward_weight": {
            **refused,
            "weight_rank": Bad(
                {"weight_shape": (2, 2, 9)}, ValueError, ("weight_shape", "2, 2, 9")
            ),
            "other_output": Bad({"dy": normal(2, 5, 10, 9)}, ValueError, ("dy", "5", "6")),
        },
        "adaptive_max_pool2d": sizes,
        "adaptive_avg_pool2d": sizes,
        "adaptive_avg_pool2d_backward": {
            "data_format": geometry["data_format"],
            "input_rank": Bad({"input_shape": (7, 5, 3)}, ValueError, ("input_shape", "7, 5, 3")),
            "no_row": Bad({"dy": normal(2, 0, 7, 3)}, ValueError, ("dy", "2, 0, 7, 3", "row")),
            "channels": Bad({"input_shape": (2, 7, 5, 4)}, ValueError, ("dy", "3", "4")),
        },
        "global_max_pool2d": pool,
    }

"""The table of what is written for each kind of layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pycnn.onnx import write_maps, write_moves
from pycnn.onnx.write_maps import elementwise, joined, plain

M, V = write_maps, write_moves
# By the name of the class.
WRITERS: dict[str, Callable[[Any, Any], None]] = {
    "Abs": plain("Abs"),
    "AdaptiveAvgPool2d": V.adaptive_pool,
    "AdaptiveMaxPool2d": V.adaptive_pool,
    "Add": joined("Add"),
    "Affine": elementwise(M.affine),
    "AvgPool1d": V.pool,
    "AvgPool2d": V.pool,
    "BatchNorm1d": M.batch_norm,
    "BatchNorm2d": M.batch_norm,
    "ChannelAffine": elementwise(M.channel_affine),
    "ChannelShuffle": V.channel_shuffle,
    "Clip": elementwise(M.clip),
    "Combine": M.combine,
    "Concat": V.concat,
    "Conv1d": M.conv,
    "Conv2d": M.conv,
    "ConvTranspose2d": M.conv_transpose,
    "Crop": V.crop,
    "DepthToSpace": V.depth_to_space,
    "Divide": joined("Div"),
    "ELU": elementwise(lambda w, n, x: w.op("Elu", [x], alpha=n.operation.alpha)),
    "Erf": plain("Erf"),
    "Exp": plain("Exp"),
    "Flatten": V.flatten,
    "GELU": elementwise(M.gelu),
    "GlobalAvgPool2d": V.global_pool,
    "GlobalMaxPool2d": V.global_pool,
    "GroupNorm": M.group_norm,
    "Hardsigmoid": elementwise(M.hard_sigmoid),
    "Hardswish": plain("HardSwish"),
    "LayerNorm": M.layer_norm,
    "LeakyReLU": elementwise(
        lambda w, n, x: w.op("LeakyRelu", [x], alpha=n.operation.negative_slope)
    ),
    "Linear": M.linear,
    "LocalResponseNorm": M.local_response_norm,
    "Log": plain("Log"),
    "MaxPool1d": V.pool,
    "MaxPool2d": V.pool,
    "Mean": V.mean,
    "Multiply": joined("Mul"),
    "PReLU": M.prelu,
    "Pad": V.pad,
    "Permute": V.permute,
    "Power": elementwise(lambda w, n, x: w.op("Pow", [x, w.number(n.operation.exponent)])),
    "ReLU": plain("Relu"),
    "ReLU6": elementwise(M.clip),
    "Reshape": V.reshape,
    "Resize": V.resize,
    "SiLU": elementwise(lambda w, n, x: w.op("Mul", [x, w.op("Sigmoid", [x])])),
    "Sigmoid": plain("Sigmoid"),
    "Slice": V.slice_,
    "Softmax": M.softmax,
    "Softplus": elementwise(M.softplus),
    "SpaceToDepth": V.space_to_depth,
    "Split": V.split,
    "Sqrt": plain("Sqrt"),
    "Subtract": joined("Sub"),
    "Tanh": plain("Tanh"),
    "Upsample": V.resize,
}

"""Pure functions, arrays in and arrays out: what layers are made of and what tests compare.

float32 runs on the vector kernels, float64 on plain loops (for gradient checks; blocks have none);
any other type is a TypeError, never a silent cast. Images are [N, H, W, C] unless
`data_format="NCHW"` (then results are NCHW too; weights stay [KH, KW, C/groups, OC]; blocks are
NHWC only). Inputs that have gaps are copied first, in `arrays.contiguous`. `out=` must fit
exactly: C-contiguous, of the result's type and shape, apart from the inputs. Every function drops
the GIL while it computes.
"""

from __future__ import annotations

from pycnn.ops.conv2d import (
    Conv2dExplanation,
    conv2d,
    conv2d_backward_bias,
    conv2d_backward_input,
    conv2d_backward_weight,
    conv2d_output_shape,
    explain_conv2d,
)
from pycnn.ops.conv_norm import (
    ConvNorm,
    ConvNormGradients,
    conv2d_norm,
    conv2d_norm_backward,
)
from pycnn.ops.conv_pool import (
    ConvPoolGradients,
    conv2d_relu_backward,
    conv_pool,
    conv_pool_backward,
)
from pycnn.ops.conv_transpose2d import (
    conv_transpose2d,
    conv_transpose2d_backward_input,
    conv_transpose2d_backward_weight,
    conv_transpose2d_output_shape,
)
from pycnn.ops.dense import (
    accumulate,
    add_bias,
    linear,
    log_softmax,
    log_softmax_backward,
    matmul,
    relu,
    relu_backward,
    softmax,
    softmax_backward,
)
from pycnn.ops.dropout import dropout, dropout2d
from pycnn.ops.images import augment_images, gather_images
from pycnn.ops.join import (
    add,
    affine,
    divide,
    multiply,
    power,
    power_backward,
    subtract,
    sum_to,
)
from pycnn.ops.losses import (
    binary_cross_entropy_with_logits,
    huber_loss,
    l1_loss,
    mse_loss,
    softmax_cross_entropy,
)
from pycnn.ops.moved import (
    channel_shuffle,
    concat,
    crop,
    depth_to_space,
    pad,
    pad_backward,
    permute,
    slice_axis,
    space_to_depth,
    split,
)
from pycnn.ops.norm import (
    BatchNorm,
    BatchNormGradients,
    batch_norm,
    batch_norm_backward,
    batch_norm_inference,
)
from pycnn.ops.optim import adam_step, rmsprop_step, sgd_step
from pycnn.ops.pool2d import (
    avg_pool2d,
    avg_pool2d_backward,
    max_pool2d,
    max_pool2d_backward,
    pool2d_output_shape,
)
from pycnn.ops.resized import resize, resize_backward
from pycnn.ops.row_norm import (
    Normalised,
    NormGradients,
    group_norm,
    group_norm_backward,
    layer_norm,
    layer_norm_backward,
    local_response_norm,
    local_response_norm_backward,
)
from pycnn.ops.whole_pool2d import (
    adaptive_avg_pool2d,
    adaptive_avg_pool2d_backward,
    adaptive_max_pool2d,
    global_avg_pool2d,
    global_avg_pool2d_backward,
    global_max_pool2d,
)

__all__ = [
    "BatchNorm",
    "BatchNormGradients",
    "Conv2dExplanation",
    "ConvNorm",
    "ConvNormGradients",
    "ConvPoolGradients",
    "NormGradients",
    "Normalised",
    "accumulate",
    "adam_step",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool2d_backward",
    "adaptive_max_pool2d",
    "add",
    "add_bias",
    "affine",
    "augment_images",
    "avg_pool2d",
    "avg_pool2d_backward",
    "batch_norm",
    "batch_norm_backward",
    "batch_norm_inference",
    "binary_cross_entropy_with_logits",
    "channel_shuffle",
    "concat",
    "conv2d",
    "conv2d_backward_bias",
    "conv2d_backward_input",
    "conv2d_backward_weight",
    "conv2d_norm",
    "conv2d_norm_backward",
    "conv2d_output_shape",
    "conv2d_relu_backward",
    "conv_pool",
    "conv_pool_backward",
    "conv_transpose2d",
    "conv_transpose2d_backward_input",
    "conv_transpose2d_backward_weight",
    "conv_transpose2d_output_shape",
    "crop",
    "depth_to_space",
    "divide",
    "dropout",
    "dropout2d",
    "explain_conv2d",
    "gather_images",
    "global_avg_pool2d",
    "global_avg_pool2d_backward",
    "global_max_pool2d",
    "group_norm",
    "group_norm_backward",
    "huber_loss",
    "l1_loss",
    "layer_norm",
    "layer_norm_backward",
    "linear",
    "local_response_norm",
    "local_response_norm_backward",
    "log_softmax",
    "log_softmax_backward",
    "matmul",
    "max_pool2d",
    "max_pool2d_backward",
    "mse_loss",
    "multiply",
    "pad",
    "pad_backward",
    "permute",
    "pool2d_output_shape",
    "power",
    "power_backward",
    "relu",
    "relu_backward",
    "resize",
    "resize_backward",
    "rmsprop_step",
    "sgd_step",
    "slice_axis",
    "softmax",
    "softmax_backward",
    "softmax_cross_entropy",
    "space_to_depth",
    "split",
    "subtract",
    "sum_to",
]

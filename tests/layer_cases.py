"""One of each kind of layer, with an input and the reference's formula."""

import numpy as np
import pytest
import reference

from pycnn import layers

PADS = ((0, 2), (1, 0))
OPTIONS = {"stride": (2, 1), "padding": PADS, "dilation": (1, 2), "groups": 2}


def of_one_row(rule, x, *options):
    """A rule of images on signals [N, L, C]."""
    return rule(x[:, None], *options)[:, 0]


# name: (how to make it, shape of x, what the reference computes or None)
CASES = {
    "conv_valid": (
        lambda: layers.Conv2d(3, 4, 3),
        (2, 5, 4, 3),
        lambda x, p: reference.conv2d(x, *p),
    ),
    "conv_same_stride": (
        lambda: layers.Conv2d(2, 3, (3, 2), stride=2, padding="SAME"),
        (2, 5, 6, 2),
        lambda x, p: reference.conv2d(x, *p, stride=2, padding="same"),
    ),
    "conv_all_options": (
        lambda: layers.Conv2d(4, 6, (2, 3), **OPTIONS),
        (2, 4, 6, 4),
        lambda x, p: reference.conv2d(x, *p, **OPTIONS),
    ),
    "conv_no_bias": (
        lambda: layers.Conv2d(3, 2, 1, bias=False),
        (3, 2, 3, 3),
        lambda x, p: reference.conv2d(x, *p),
    ),
    "conv_lecture_stride": (
        lambda: layers.Conv2d(1, 2, 3, stride=[1, 2, 2, 1], padding="same"),
        (2, 5, 5, 1),
        lambda x, p: reference.conv2d(x, *p, stride=2, padding="same"),
    ),
    "max_pool": (
        lambda: layers.MaxPool2d(2, padding="same"),
        (2, 5, 4, 3),
        lambda x, p: reference.max_pool2d(x, 2, padding="same")[0],
    ),
    "max_pool_overlapping": (
        lambda: layers.MaxPool2d(3, stride=(1, 2), padding=1),
        (2, 5, 6, 2),
        lambda x, p: reference.max_pool2d(x, 3, stride=(1, 2), padding=1)[0],
    ),
    "avg_pool": (
        lambda: layers.AvgPool2d((2, 3), stride=2, padding="same"),
        (2, 5, 4, 3),
        lambda x, p: reference.avg_pool2d(x, (2, 3), stride=2, padding="same"),
    ),
    "avg_pool_with_padding": (
        lambda: layers.AvgPool2d(3, stride=2, padding=1, count_include_pad=True),
        (2, 5, 4, 3),
        lambda x, p: reference.avg_pool2d(x, 3, 2, 1, count_include_pad=True),
    ),
    "max_pool_ceil": (
        lambda: layers.MaxPool2d(2, stride=(2, 3), dilation=(2, 1), ceil_mode=True),
        (2, 6, 5, 3),
        lambda x, p: reference.max_pool2d(x, 2, (2, 3), dilation=(2, 1), ceil_mode=True)[0],
    ),
    "avg_pool_ceil": (
        lambda: layers.AvgPool2d(3, 2, (0, 1), count_include_pad=True, ceil_mode=True),
        (2, 6, 4, 3),
        lambda x, p: reference.avg_pool2d(x, 3, 2, (0, 1), True, ceil_mode=True),
    ),
    "adaptive_max_pool": (
        lambda: layers.AdaptiveMaxPool2d((3, None)),
        (2, 7, 4, 3),
        lambda x, p: reference.adaptive_max_pool2d(x, (3, None))[0],
    ),
    "adaptive_avg_pool": (
        lambda: layers.AdaptiveAvgPool2d([3, 5]),
        (2, 7, 4, 3),
        lambda x, p: reference.adaptive_avg_pool2d(x, (3, 5)),
    ),
    "global_max_pool": (
        layers.GlobalMaxPool2d,
        (2, 5, 4, 3),
        lambda x, p: reference.global_max_pool2d(x)[0],
    ),
    "conv_transpose": (
        lambda: layers.ConvTranspose2d(4, 6, (2, 3), (3, 1), PADS, (1, 0), (1, 2), groups=2),
        (2, 3, 4, 4),
        lambda x, p: reference.conv_transpose2d(
            x, *p, 2, stride=(3, 1), padding=PADS, output_padding=(1, 0), dilation=(1, 2)
        ),
    ),
    "conv_transpose_same": (
        lambda: layers.ConvTranspose2d(3, 2, 3, stride=2, padding="SAME", bias=False),
        (2, 3, 2, 3),
        lambda x, p: reference.conv_transpose2d(x, *p, stride=2, padding="same"),
    ),
    "conv1d": (
        lambda: layers.Conv1d(4, 6, 3, stride=2, padding=(2, 1), dilation=2, groups=2),
        (2, 9, 4),
        lambda x, p: of_one_row(
            reference.conv2d, x, p[0][None], p[1], (1, 2), ((0, 0), (2, 1)), (1, 2), 2
        ),
    ),
    "max_pool1d": (
        lambda: layers.MaxPool1d(3, stride=2, padding=1, ceil_mode=True),
        (2, 8, 3),
        lambda x, p: of_one_row(
            lambda x: reference.max_pool2d(x, (1, 3), (1, 2), (0, 1), ceil_mode=True)[0], x
        ),
    ),
    "avg_pool1d": (
        lambda: layers.AvgPool1d(3, stride=2, padding="same", count_include_pad=True),
        (2, 8, 3),
        lambda x, p: of_one_row(reference.avg_pool2d, x, (1, 3), (1, 2), "same", True),
    ),
    "global_avg_pool": (
        layers.GlobalAvgPool2d,
        (2, 5, 4, 3),
        lambda x, p: reference.global_avg_pool2d(x),
    ),
    "batch_norm": (
        lambda: layers.BatchNorm2d(5, eps=1e-3),
        (3, 2, 2, 5),
        lambda x, p: reference.batch_norm(x, *p, eps=1e-3)[0],
    ),
    "batch_norm_vectors": (
        lambda: layers.BatchNorm1d(5),
        (7, 5),
        lambda x, p: reference.batch_norm(x, *p)[0],
    ),
    "batch_norm_sequences": (
        lambda: layers.BatchNorm1d(3, eps=1e-2),
        (2, 4, 3),
        lambda x, p: reference.batch_norm(x, *p, eps=1e-2)[0],
    ),
    "channel_affine": (
        lambda: layers.ChannelAffine(5),
        (3, 2, 4, 5),
        lambda x, p: x * p[0] + p[1],
    ),
    "layer_norm": (
        lambda: layers.LayerNorm(5, eps=1e-2),
        (3, 2, 2, 5),
        lambda x, p: reference.layer_norm(x, *p, eps=1e-2)[0],
    ),
    "layer_norm_no_bias": (
        lambda: layers.LayerNorm(4, bias=False),
        (5, 4),
        lambda x, p: reference.layer_norm(x, *p)[0],
    ),
    "group_norm": (
        lambda: layers.GroupNorm(2, 6, eps=1e-2),
        (2, 3, 2, 6),
        lambda x, p: reference.group_norm(x, *p, 2, eps=1e-2)[0],
    ),
    "local_response_norm": (
        lambda: layers.LocalResponseNorm(3, 0.5, 0.75, 1.5),
        (2, 2, 3, 5),
        lambda x, p: reference.local_response_norm(x, 3, 0.5, 0.75, 1.5),
    ),
    "power": (lambda: layers.Power(3), (4, 5), lambda x, p: x**3),
    "relu": (layers.ReLU, (4, 5), lambda x, p: reference.relu(x)),
    "flatten": (layers.Flatten, (2, 3, 4, 2), lambda x, p: x.reshape(2, 24)),
    "linear": (
        lambda: layers.Linear(5, 3),
        (4, 5),
        lambda x, p: reference.matmul(x, p[0]) + p[1],
    ),
    "linear_no_bias": (
        lambda: layers.Linear(5, 3, bias=False),
        (4, 5),
        lambda x, p: reference.matmul(x, p[0]),
    ),
    "slice": (
        lambda: layers.Slice(1, 4, 2, axis=1),
        (2, 5, 4, 3),
        lambda x, p: reference.slice_axis(x, 1, 4, 2, 1),
    ),
    "permute": (
        lambda: layers.Permute((0, 3, 1, 2)),
        (2, 5, 4, 3),
        lambda x, p: reference.permute(x, (0, 3, 1, 2)),
    ),
    "shuffle": (
        lambda: layers.ChannelShuffle(2),
        (2, 5, 6),
        lambda x, p: reference.channel_shuffle(x, 2),
    ),
    "reshape": (lambda: layers.Reshape((-1, 6)), (2, 3, 4, 2), lambda x, p: x.reshape(2, 4, 6)),
    "pad": (
        lambda: layers.Pad(PADS, value=2.5),
        (2, 3, 4, 2),
        lambda x, p: reference.pad(x, PADS, value=2.5),
    ),
    "pad_reflect": (
        lambda: layers.Pad(PADS, "reflect"),
        (2, 3, 4, 2),
        lambda x, p: reference.pad(x, PADS, "reflect"),
    ),
    "crop": (lambda: layers.Crop(PADS), (2, 5, 4, 2), lambda x, p: reference.crop(x, PADS)),
    "depth_to_space": (
        lambda: layers.DepthToSpace(2, "CRD"),
        (2, 3, 2, 8),
        lambda x, p: reference.depth_to_space(x, 2, "CRD"),
    ),
    "space_to_depth": (
        lambda: layers.SpaceToDepth(2),
        (2, 4, 6, 3),
        lambda x, p: reference.space_to_depth(x, 2),
    ),
    "resize": (
        lambda: layers.Resize((5, 3), mode="bilinear"),
        (2, 3, 4, 2),
        lambda x, p: reference.resize(x, size=(5, 3), mode="bilinear"),
    ),
    "upsample": (
        lambda: layers.Upsample(scale=2),
        (2, 3, 4, 2),
        lambda x, p: reference.resize(x, scale=2),
    ),
    "dropout2d": (lambda: layers.Dropout2d(0.4, rng=3), (3, 2, 3, 4), None),
    "dropout": (lambda: layers.Dropout(0.4, rng=3), (4, 6), None),
}
every_layer = pytest.mark.parametrize("name", CASES)


def bound(dtype):
    """The most that rounding can do: at most 50 products whose magnitudes sum to at most 100."""
    return 50 * 100 * np.finfo(dtype).eps


def make(name, dtype=np.float64):
    """(layer with random parameters, x)."""
    rng = np.random.default_rng(7)
    layer = CASES[name][0]().astype(dtype)
    for parameter in layer.parameters():
        parameter.data[...] = rng.standard_normal(parameter.data.shape)
    return layer, rng.standard_normal(CASES[name][1]).astype(dtype)


def make_with_dy(name, dtype=np.float32):
    layer, x = make(name, dtype)
    return (
        layer,
        x,
        np.random.default_rng(8).standard_normal(layer.output_shape(x.shape)).astype(dtype),
    )

"""Arrays in NCHW or OIHW whose channels would fit: the sentence says what to write."""

import numpy as np
import pytest

from pycnn import ops
from pycnn.layers import Conv2d, Sequential

X, WEIGHT = (8, 9, 7, 3), (5, 4, 3, 16)  # NHWC, HWIO
X_NCHW, WEIGHT_OIHW = (8, 3, 9, 7), (16, 3, 5, 4)
TURN_X = "for x [N, C, H, W] write x.transpose(0, 2, 3, 1)"
TURN_WEIGHT = "for weight [OC, C/groups, KH, KW] write weight.transpose(2, 3, 1, 0)"


def zeros(*shape):
    return np.zeros(shape, np.float32)


def refusal(function, *arguments, **options):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the callers look at the whole sentence)
        function(*arguments, **options)
    return str(caught.value)


@pytest.mark.parametrize(
    ("x", "weight", "options", "ending"),
    [
        (X_NCHW, WEIGHT, {}, f"{WEIGHT}: {TURN_X}."),
        (X, WEIGHT_OIHW, {}, f"{WEIGHT_OIHW}: {TURN_WEIGHT}."),
        (X_NCHW, WEIGHT_OIHW, {}, f"{WEIGHT_OIHW}: {TURN_X}, and {TURN_WEIGHT}."),
        # KH = 3 = C: axis 2 of the weight fits as it is, but only in OIHW is the window square.
        (X_NCHW, (16, 3, 3, 3), {}, f"(16, 3, 3, 3): {TURN_X}, and {TURN_WEIGHT}."),
        (X_NCHW, (3, 3, 3, 16), {}, f"(3, 3, 3, 16): {TURN_X}."),
        ((8, 16, 7, 7), (3, 3, 1, 16), {"groups": 16}, f"divisor of both: {TURN_X}."),
        ((8, 7, 7, 16), (16, 1, 3, 3), {"groups": 16}, f"divisor of both: {TURN_WEIGHT}."),
        ((8, 9, 7, 5), WEIGHT, {}, f"it has shape {WEIGHT}."),
        # C = 6 = 2 * 3 fits in OIHW, but OC = 3 cannot be cut into 2 groups.
        ((8, 9, 9, 6), (3, 3, 2, 4), {"groups": 2}, "it has shape (3, 3, 2, 4)."),
        (X, WEIGHT, {"data_format": "NCHW"}, 'for x [N, H, W, C] write data_format="NHWC".'),
        # In NCHW, axis 1 of what C++ sees is H: no reason to turn an image of H = C.
        ((8, 5, 3, 9), WEIGHT, {"data_format": "NCHW"}, f"it has shape {WEIGHT}."),
    ],
)
def test_conv2d_says_which_array_to_turn(x, weight, options, ending):
    message = refusal(ops.conv2d, zeros(*x), zeros(*weight), **options)
    assert message.startswith("conv2d: ")
    assert message.endswith(ending)


def test_what_conv2d_says_to_write_works():
    x, weight = zeros(*X_NCHW), zeros(*WEIGHT_OIHW)
    assert ops.conv2d(x.transpose(0, 2, 3, 1), weight.transpose(2, 3, 1, 0)).shape == (8, 5, 4, 16)


def test_a_sentence_about_nchw_shows_the_shape_that_was_given():
    message = refusal(ops.conv2d, zeros(*X_NCHW), zeros(5, 4, 2, 16), data_format="NCHW")
    assert f"x {X_NCHW} has C = 3 channels" in message
    message = refusal(ops.conv2d, zeros(8, 3, 0, 7), zeros(*WEIGHT), data_format="NCHW")
    assert "x has shape (8, 3, 0, 7)" in message
    assert "[N, C, H, W]" in message
    message = refusal(ops.conv2d, zeros(8, 9, 7), zeros(5, 4, 1, 16), data_format="NCHW")
    assert "expected 4: [N, C, H, W]" in message
    assert "x[:, None] for one channel" in message


OTHERS = {
    "conv2d_backward_input": (
        lambda: ops.conv2d_backward_input(zeros(8, 16, 5, 4), zeros(*WEIGHT), X),
        "dy",
    ),
    "conv2d_backward_weight": (
        lambda: ops.conv2d_backward_weight(zeros(*X_NCHW), zeros(8, 5, 4, 16), WEIGHT),
        "x",
    ),
    "conv_pool": (lambda: ops.conv_pool(zeros(*X_NCHW), zeros(*WEIGHT)), "x"),
    "explain_conv2d": (lambda: ops.explain_conv2d(X_NCHW, WEIGHT), "x"),
    "max_pool2d_backward": (
        lambda: ops.max_pool2d_backward(zeros(8, 4, 3, 5), np.zeros((8, 3, 4, 5), np.int32), X),
        None,  # of dy and indices nobody knows which one is wrong
    ),
    "avg_pool2d_backward": (lambda: ops.avg_pool2d_backward(zeros(8, 3, 4, 3), X, 2), "dy"),
    "batch_norm": (lambda: ops.batch_norm(zeros(*X_NCHW), zeros(3), zeros(3)), "x"),
    "batch_norm_inference": (
        lambda: ops.batch_norm_inference(zeros(*X_NCHW), *[zeros(3)] * 4),
        "x",
    ),
    "gather_images": (
        lambda: ops.gather_images(zeros(*X_NCHW), [0], mean=(0.1, 0.2, 0.3)),
        "images",
    ),
    "compile_inference": (
        lambda: Sequential(Conv2d(3, 16, (5, 4))).compile_inference(X)(zeros(*X_NCHW)),
        "x",
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_operators_say_which_array_to_turn(name):
    call, array = OTHERS[name]
    message = refusal(call)
    if array is None:
        assert "transpose" not in message
    else:
        assert message.endswith(f" write {array}.transpose(0, 2, 3, 1).")


def test_an_out_is_not_to_be_turned():
    message = refusal(ops.conv2d, zeros(*X), zeros(*WEIGHT), out=zeros(8, 16, 5, 4))
    assert "transpose" not in message

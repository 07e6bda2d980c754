"""What a network refuses while it is traced and run, and what a program prints."""

import numpy as np
import pytest
from graph_cases import (
    Repeat,
    make,
)

from pycnn import layers
from pycnn.layers import Conv2d, Linear, Module


class Bad(Module):
    """Does with a value what `body` says."""

    def __init__(self, body):
        super().__init__()
        self.conv = Conv2d(3, 4, 1)
        self.body = body

    def forward(self, x):
        return self.body(self.conv(x))


TWICE = "a network is traced once, for all inputs, before there are numbers"
REFUSED = [
    (lambda v: bool(v) and v, TypeError, rf"^a truth value .* of a Value: {TWICE}; branch on"),
    (lambda v: list(v), TypeError, rf"^iteration of a Value: {TWICE}; return"),
    (lambda v: np.asarray(v), TypeError, rf"^a NumPy array of a Value: {TWICE}; use layers"),
    (lambda v: np.maximum(v, 0), TypeError, r"^np\.maximum, .*of a Value: .*write_a_layer"),
    (lambda v: np.ones(4) * v, TypeError, r"^np\.multiply, .*of a Value"),
    (lambda v: np.concatenate([v, v]), TypeError, r"^np\.concatenate of a Value"),
    (lambda v: v > 0, TypeError, rf"^a number or a comparison of a Value: {TWICE}"),
    (lambda v: float(v), TypeError, r"^a number or a comparison of a Value"),
    (lambda v: v[:, 0], TypeError, r"^the index .* of a Value"),
    (lambda v: len(v), TypeError, r"^len\(\), the number of images, of a Value"),
    (lambda v: v / None, TypeError, r"^Divide: argument 1 is a NoneType beside a Value"),
    (lambda v: v.reshape(1), AttributeError, r"^a Value has no attribute 'reshape'"),
    (lambda v: v + np.ones(4, np.float32), TypeError, r"^Add: argument 1 is a NumPy array"),
    (lambda v: v + layers.relu(Conv2d(4, 3, 1)(v)), ValueError, r"^Bad: Conv2d.* no attribute of"),
    (lambda v: layers.concat(v), TypeError, r"^concat: got Value; expected a list"),
    (lambda v: layers.flatten(v) + v, ValueError, r"^Add: the inputs have shapes \(2, 100\) and"),
    (lambda v: None, TypeError, r"^Bad: forward returned NoneType; expected what layers made"),
    (lambda v: np.ones(3), TypeError, r"^Bad: forward returned ndarray"),
    (lambda v: (), TypeError, r"^Bad: forward returned nothing"),
    (lambda v: layers.split(v, [1, 2]), ValueError, r"^Split: x has shape .* up to 3; expected 4"),
    (lambda v: v + layers.Input((5, 5, 4)), ValueError, r"^Add: argument 1 is a value of an"),
]


@pytest.mark.parametrize(("body", "error", "message"), REFUSED)
def test_what_a_value_cannot_do_is_a_sentence(body, error, message):
    with pytest.raises(error, match=message):
        Bad(body).forward(np.ones((2, 5, 5, 3), np.float32))


def test_a_wrong_shape_names_the_path():
    model, (x,), _ = make("residual")
    with pytest.raises(ValueError, match=r"^stem \(Conv2d\): x has shape \(3, 6, 5, 2\), C = 2"):
        model.forward(x[..., :2])
    model.blocks[1].conv2 = Conv2d(5, 8, 1)
    with pytest.raises(ValueError, match=r"^blocks\.1\.conv2 \(Conv2d\): x has shape .*C = 8"):
        model.forward(x)
    with pytest.raises(ValueError, match=r"^blocks\.1\.conv2 \(Conv2d\): x has shape \(1, 3, 3, 8"):
        model.summary((None, 6, 5, 3))


def test_an_error_while_computing_names_the_path():
    model, _, _ = make("residual")
    with pytest.raises(ValueError, match=r"^blocks\.1\.norm1 \(BatchNorm2d\): .*in training, one"):
        model.forward(np.ones((1, 1, 2, 3), np.float32))


def test_numbers_of_arrays_are_checked():
    model, (x, z), dys = make("many")
    with pytest.raises(TypeError, match=r"Many: forward without an array"):
        model.forward()
    with pytest.raises(ValueError, match=r"^Many: x 1 has 3 images, the first x 4"):
        model.forward(x, z[:3])
    with pytest.raises(
        TypeError, match=r"^Many: x 1 is float64; expected float32, the type of the"
    ):
        model.forward(x, z.astype(np.float64))
    with pytest.raises(TypeError, match=r"x 1 is a list; expected a NumPy array"):
        model.forward(x, z.tolist())
    model.forward(x, z)
    with pytest.raises(TypeError, match=r"^Many: backward with 2 gradients; expected 3"):
        model.backward(*dys[:2])
    with pytest.raises(ValueError, match=r"^Many: dy 1 has shape \(4, 3\); expected \(4, 4\)"):
        model.backward(dys[0], dys[1][:, :3], dys[2])
    with pytest.raises(ValueError, match=r"^Many: dy 1 has shape \(2, 8\); expected \(4, 4\)"):
        model.backward(dys[0], dys[1].reshape(2, 8), dys[2])
    with pytest.raises(TypeError, match=r"missing 1 required positional argument"):
        model.forward(x)
    with pytest.raises(
        TypeError, match=r"^Many: forward with z=\.\.\.; expected the inputs by pos"
    ):
        model.forward(x, z=z)


def test_a_graph_is_checked():
    x = layers.Input((4,))
    y = Linear(4, 2)(x)
    other = layers.Input((4,))
    with pytest.raises(
        ValueError, match=r"^Graph: an output needs an Input that is none of inputs"
    ):
        layers.Graph(other, y)
    with pytest.raises(TypeError, match=r"^Graph: inputs holds a ndarray; expected values"):
        layers.Graph(np.ones(3), y)
    with pytest.raises(ValueError, match=r"^Graph: inputs is .*; expected values of layers\.Input"):
        layers.Graph(y, y)
    with pytest.raises(ValueError, match=r"^Linear: x has shape \(1, 2\), 2 features"):
        Linear(4, 2)(y)
    with pytest.raises(TypeError, match="only N may be None"):
        layers.Input((None, 3))
    graph = layers.Graph(x, (y, x))
    assert graph["0"] is y.node.operation
    with pytest.raises(KeyError, match="this network has 0"):
        graph["1"]
    with pytest.raises(TypeError, match=r"^Graph: got 2 inputs; expected 1"):
        graph.forward(np.ones((1, 4), np.float32), np.ones((1, 4), np.float32))


def test_a_layer_that_infers_nonsense():
    class Bent(Repeat):
        def infer_shape(self, x):
            return (7, *x[1:])

    with pytest.raises(ValueError, match=r"^Bent: infer_shape gave \(7, 1, 1, 1\) .* is N = 2"):
        Bent().forward(np.ones((2, 1, 1, 1), np.float32))
    with pytest.raises(NotImplementedError, match="Module must define forward"):
        Module().forward(np.ones((2, 1), np.float32))


def test_a_program_prints_a_line_a_call():
    model, _, _ = make("many")
    lines = str(model.program((None, 5), (None, 3))).splitlines()
    assert lines[0].split() == ["v0", "input", "(None,", "5)"]
    assert lines[2].split() == ["v2", "a", "Linear(5,", "4)", "v0", "(None,", "4)"]
    assert lines[4].split()[:4] == ["v4", "Add()", "v2,", "v3"]
    assert lines[5].split()[:2] == ["v5,", "v6"]
    assert lines[-1].split() == ["output", "v8,", "v10,", "v1"]
    assert len(lines) == 2 + len(model.program((None, 5), (None, 3)).nodes) + 1


@pytest.mark.parametrize("method", ["program", "summary", "output_shape", "compile_inference"])
def test_what_needs_input_shapes_asks_for_them(method):
    with pytest.raises(TypeError, match=r"^Conv2d: no input shape; expected one for each input: "):
        getattr(Conv2d(3, 4, 1), method)()

"""Random networks go to ONNX and come back: the same numbers, and the same parameters."""

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st
from onnx_cases import close, onnx, reference
from test_interop import spread

import pycnn
from pycnn import layers
from pycnn.onnx import export_onnx, import_onnx

IMAGE = (6, 4, 4)  # h != w, channels for two and four groups


def on_images(C):
    """Layers of an image of C channels, an even number, that keep height and width."""
    return [
        layers.Conv2d(C, 4, 3, padding=1, rng=0),
        layers.Conv2d(C, 8, (1, 3), padding="same", rng=0),
        layers.Conv2d(C, C, 3, padding=1, dilation=1, groups=2, bias=False, rng=0),
        layers.BatchNorm2d(C), layers.MaxPool2d(3, 1, 1), layers.ChannelShuffle(2),
        layers.AvgPool2d((1, 3), 1, ((0, 0), (1, 1))), layers.GroupNorm(2, C),
        layers.GroupNorm(C, C), layers.LayerNorm(C), layers.Linear(C, 4, rng=0), layers.Softmax(),
        layers.LocalResponseNorm(3), layers.ChannelAffine(C), layers.PReLU(C),
        layers.Combine("multiply", (4, 1)), layers.Affine(0.5, -1.0),
    ]  # fmt: skip


KINDS = ["layer", "any", "move", "join", "gate", "concat", "split"]
ANYWHERE = [
    layers.ReLU, layers.ReLU6, layers.LeakyReLU, layers.ELU, layers.Sigmoid, layers.Hardsigmoid,
    layers.Hardswish, layers.SiLU, layers.GELU, lambda: layers.GELU("tanh"), layers.Tanh,
    layers.Softplus, layers.Abs, lambda: layers.Clip(-0.5, 0.75), layers.Dropout,
    lambda: layers.Power(2.0), layers.Erf,
]  # fmt: skip
MOVED = [  # away and back: the shape is that of before
    (layers.Permute((0, 2, 1, 3)), layers.Permute((0, 2, 1, 3))),
    (layers.Permute((0, 3, 1, 2)), layers.Tanh(), layers.Permute((0, 2, 3, 1))),
    (layers.Reshape((24, -1)), layers.Sigmoid(), layers.Reshape((6, 4, -1))),
    (layers.Reshape((24, -1)), layers.Permute((0, 2, 1)), layers.Mean(2, keepdims=True)),
    (layers.DepthToSpace(2, "CRD"), layers.SpaceToDepth(2, "DCR")),
    (layers.Pad(((1, 2), (0, 1)), "reflect"), layers.Crop(((1, 2), (0, 1)))),
    (layers.Slice(1, None, 1, axis=1), layers.Pad(((0, 1), (0, 0)), value=0.5)),
    (layers.Resize(scale=2), layers.MaxPool2d(2)),
    (layers.Resize(size=(3, 2), mode="bilinear"), layers.Resize(size=(6, 4))),
]  # fmt: skip


@st.composite
def networks(draw):
    """A Graph of images with joins, and one or two outputs."""
    x = layers.Input(IMAGE)
    values = [x]
    for _ in range(draw(st.integers(1, 7))):
        a = draw(st.sampled_from(values))
        kind = draw(st.sampled_from(KINDS))
        C = a.shape[-1]
        if kind == "layer" and C % 4 == 0:
            a = draw(st.sampled_from(on_images(C)))(a)
        elif kind == "any":
            a = draw(st.sampled_from(ANYWHERE))()(a)
        elif kind == "move" and C % 4 == 0:
            for layer in draw(st.sampled_from(MOVED)):
                a = layer(a)
        elif kind == "join":
            same = [v for v in values if v.shape == a.shape]
            b = draw(st.sampled_from(same))
            a = draw(st.sampled_from([layers.add, layers.subtract, layers.multiply]))(a, b)
        elif kind == "gate":
            a = a * layers.Reshape((1, 1, C))(layers.Sigmoid()(layers.GlobalAvgPool2d()(a)))
        elif kind == "concat":
            a = layers.concat([a, draw(st.sampled_from(values))])
        elif kind == "split" and C > 4:
            a = layers.split(a, (4, C - 4))[0]
        if a.shape[1:3] == IMAGE[:2]:
            values.append(a)
        else:
            break
    end = draw(st.sampled_from(["image", "pool", "flat", "two"]))
    if end == "pool" and a.ndim == 4:
        a = layers.GlobalAvgPool2d()(a)
    elif end == "flat":
        a = layers.ReLU()(layers.Flatten()(a))
    if a.ndim == 2:
        a = layers.Linear(a.shape[-1], 3, rng=0)(a)
    return layers.Graph(x, (a, values[-1]) if end == "two" else a)


def same_twice():
    """A value that is two outputs, and one that two values lie in."""
    x = layers.Input(IMAGE)
    a = layers.Conv2d(4, 4, 3, padding=1, rng=0)(x)
    return layers.Graph(x, (layers.Dropout()(a), a, a, x))


def outputs(ys):
    return ys if isinstance(ys, (tuple, list)) else (ys,)


def rows_of_one():
    """An output [N, 4, 1], which is no pooled image."""
    x = layers.Input(IMAGE)
    a = layers.Permute((0, 2, 1))(layers.Reshape((24, -1))(x))
    return layers.Graph(x, layers.Mean(2, keepdims=True)(a))


@settings(max_examples=60)
@given(networks(), st.integers(0, 99))
@example(same_twice(), 0)
@example(rows_of_one(), 0)
def test_a_network_goes_round(tmp_path_factory, network, seed):
    rng = np.random.default_rng(seed)
    spread(network, rng)
    path = tmp_path_factory.mktemp("round") / "m.onnx"
    export_onnx(network, path, (None, *IMAGE))
    x = rng.standard_normal((2, *IMAGE)).astype(np.float32)
    expected = outputs(network.eval()(x))
    back = import_onnx(path, softmax=True)
    assert back.input_shape == IMAGE
    for y, z in zip(outputs(back(x)), expected, strict=True):
        close(y, z, 1e-4)
    for y, z in zip(reference(onnx.load(path), x), expected, strict=True):
        close(y, z, 1e-4)


def test_an_import_trains_is_saved_and_exported_again(tmp_path):
    x = layers.Input(IMAGE)
    a = layers.relu(layers.BatchNorm2d(4)(layers.Conv2d(4, 4, 3, padding=1, rng=0)(x)))
    y = layers.Linear(4, 3, rng=0)(layers.GlobalAvgPool2d()(a + x))
    path = tmp_path / "m.onnx"
    network = layers.Graph(x, y)
    export_onnx(network, path, (None, *IMAGE))
    model = import_onnx(path)
    names = [name for name, _ in model.named_parameters()]
    assert names == [name for name, _ in network.named_parameters()]
    assert names == ["0.weight", "0.bias", "1.weight", "1.bias", "4.weight", "4.bias"]
    images = np.random.default_rng(0).standard_normal((8, *IMAGE)).astype(np.float32)
    before = model(images)
    model.train()
    trainer = pycnn.Trainer(model, pycnn.optim.SGD(model.parameters(), 0.1))
    trainer.fit((images, np.arange(8) % 3), epochs=2, batch_size=4)
    after = model.eval()(images)
    assert np.abs(after - before).max() > 1e-3
    pycnn.save_model(model, tmp_path / "m.safetensors")
    np.testing.assert_array_equal(pycnn.load_model(tmp_path / "m.safetensors")(images), after)
    export_onnx(model, path, (None, *IMAGE))
    close(import_onnx(path)(images), after)


def test_several_inputs_come_back_and_are_saved(tmp_path):
    a, b = layers.Input(IMAGE), layers.Input((3,))
    y = layers.concat([layers.GlobalAvgPool2d()(layers.SiLU()(a)), b])
    path = tmp_path / "m.onnx"
    export_onnx(layers.Graph((a, b), (y, y * 2)), path, (None, *IMAGE), (None, 3))
    model = import_onnx(path)
    rng = np.random.default_rng(0)
    xs = [rng.standard_normal((2, *shape)).astype(np.float32) for shape in (IMAGE, (3,))]
    pycnn.save_model(model, tmp_path / "m.safetensors")
    for y, z in zip(model(*xs), pycnn.load_model(tmp_path / "m.safetensors")(*xs), strict=True):
        np.testing.assert_array_equal(y, z)

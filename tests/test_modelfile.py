"""save_model and load_model: what comes back is the model, and other files get a sentence."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pycnn
from pycnn import layers, modelfile, models
from pycnn._formats import description
from pycnn._formats.files import read_safetensors, write_safetensors
from pycnn.layers import Conv2d, Dropout, Flatten, Linear, ReLU, Sequential
from pycnn.preprocessing import Normalization

EVERY = [
    lambda: Conv2d(3, 4, (3, 2), 2, ((1, 0), (2, 1)), (1, 2), bias=False, rng=1),
    lambda: Conv2d(4, 6, 3, padding="SAME", groups=2, rng=2),
    lambda: Sequential(ReLU(), Sequential(layers.MaxPool2d(2, 1, "same"))),
    lambda: layers.AvgPool2d([1, 2, 2, 1], padding=(1, 0), count_include_pad=True),
    lambda: Dropout(0.25, rng=3),
    lambda: layers.BatchNorm2d(6, 0.2, 1e-3),
    lambda: Sequential(layers.Clip(-1), layers.Clip(high=2), layers.ReLU6(), layers.PReLU(6)),
    lambda: Sequential(layers.LeakyReLU(0.1), layers.ELU(0.5), layers.GELU("tanh"), layers.SiLU()),
    lambda: Sequential(layers.Hardsigmoid(0.2, 0.4), layers.Softplus(2, np.inf), layers.Abs()),
    lambda: layers.GlobalAvgPool2d(),
    Flatten,
]


def every_kind():
    x = (1, 9, 9, 3)
    made = [make() for make in EVERY]
    for layer in made:
        x = layer.output_shape(x)
    return Sequential(*made, Linear(x[1], 5, bias=False, rng=4), Linear(5, 3, rng=5))


def assert_same_model(a, b):
    assert repr(a) == repr(b)
    assert modelfile.describe(a) == modelfile.describe(b)
    first, second = a.state_dict(), b.state_dict()
    assert list(first) == list(second)
    for name, array in first.items():
        assert array.dtype == second[name].dtype
        assert array.tobytes() == second[name].tobytes()


def test_every_kind_goes_round(tmp_path, rng):
    model = every_kind()
    model.normalization = Normalization((0.1, 0.2, 0.3), 0.5)
    model.input_shape = (9, 9, 3)
    path = tmp_path / "m.safetensors"
    pycnn.save_model(model, path)
    loaded = pycnn.load_model(path)
    assert_same_model(model, loaded)
    assert loaded.normalization == model.normalization
    assert loaded.input_shape == (9, 9, 3)
    assert not loaded.training
    x = rng.standard_normal((2, 9, 9, 3)).astype(np.float32)
    assert loaded(x).tobytes() == model.eval()(x).tobytes()


def test_a_float64_model_stays_one(tmp_path):
    model = models.mnist_cnn().astype(np.float64)
    pycnn.save_model(model, tmp_path / "f")
    assert_same_model(model, pycnn.load_model(tmp_path / "f"))


pools = st.tuples(st.sampled_from(["MaxPool2d", "AvgPool2d"]), st.integers(2, 3), st.integers(1, 3))


@st.composite
def convolutions(draw, channels):
    groups = draw(st.integers(1, 2))
    return Conv2d(
        channels, groups * draw(st.integers(1, 3)), draw(st.integers(1, 3)),
        draw(st.integers(1, 2)),
        draw(st.sampled_from(["same", 1, (2, 1), ((0, 1), (2, 0))])), draw(st.integers(1, 2)),
        groups if channels % groups == 0 else 1, draw(st.booleans()), rng=draw(st.integers(0, 9)),
    )  # fmt: skip


@st.composite
def small_models(draw):
    """Models of [N, 12, 12, 2]."""
    stack, x = [], (1, 12, 12, 2)
    for _ in range(draw(st.integers(1, 3))):
        layer = draw(
            st.one_of(
                convolutions(x[3]),
                st.builds(ReLU),
                st.builds(Dropout, st.floats(0, 0.9)),
                pools.map(lambda p: getattr(layers, p[0])(p[1], p[2], "same")),
            )
        )
        try:
            x = layer.output_shape(x)
        except ValueError:  # its window is larger than the image by now
            continue
        stack.append(layer)
    stack.append(ReLU())
    features = int(np.prod(x[1:]))
    return Sequential(Sequential(*stack), Flatten(), Linear(features, 3, draw(st.booleans())))


@settings(max_examples=50)
@given(small_models())
def test_any_small_model_goes_round(tmp_path_factory, model):
    path = tmp_path_factory.mktemp("any") / "m"
    pycnn.save_model(model, path)
    first = path.read_bytes()
    loaded = pycnn.load_model(path)
    assert_same_model(model, loaded)
    pycnn.save_model(loaded, path)
    assert path.read_bytes() == first


def test_two_processes_write_the_same_bytes(tmp_path):
    program = (
        "import sys, pycnn; m = pycnn.models.mnist_cnn(rng=7, init='he')\n"
        "pycnn.set_num_threads(int(sys.argv[2])); pycnn.save_model(m, sys.argv[1])"
    )
    written = []
    for i in (1, 2):
        command = [sys.executable, "-c", program, tmp_path / f"{i}", str(i)]
        subprocess.run(command, check=True, env={**os.environ, "PYTHONHASHSEED": str(i)})
        written.append((tmp_path / f"{i}").read_bytes())
    assert written[0] == written[1]


def test_a_slice_keeps_what_belongs_to_the_input():
    model = models.mnist_cnn()
    model.normalization, model.input_shape = Normalization(0.5), (28, 28, 1)
    assert model[:3].normalization == Normalization(0.5)
    assert model[:3].input_shape == (28, 28, 1)
    assert model[3:].normalization == Normalization()
    assert model[3:].input_shape is None


def test_assigned_attributes_are_checked():
    model = models.mnist_cnn()
    with pytest.raises(TypeError, match=r"normalization is \(0, 1\); expected a pycnn\.prepr"):
        model.normalization = (0, 1)
    with pytest.raises(TypeError, match=r"input_shape is \('a',\); expected that of one image"):
        model.input_shape = ("a",)
    with pytest.raises(TypeError, match="input_shape is 28; expected that of one image"):
        model.input_shape = 28
    with pytest.raises(ValueError, match="expected in_channels = 1"):
        model.input_shape = (28, 28, 3)
    assert model.input_shape is None


class Scale(ReLU):
    def __init__(self, factor=1.0):
        super().__init__()
        self.factor = factor


@pytest.fixture
def clean_table(monkeypatch):
    monkeypatch.setattr(description, "registered", {})


def test_a_kind_of_the_users_is_registered(tmp_path, clean_table):
    model = Sequential(Sequential(Scale(2.5)))
    with pytest.raises(TypeError, match=r"layer 0\.0 is a Scale, a kind .*register\(Scale\)"):
        pycnn.save_model(model, tmp_path / "f")
    assert os.listdir(tmp_path) == []
    modelfile.register(Scale, "factor")
    modelfile.register(Scale, "factor")
    pycnn.save_model(model, tmp_path / "f")
    assert pycnn.load_model(tmp_path / "f")[0][0].factor == 2.5
    description.registered.clear()
    message = r"f: layer 0\.0 is of the kind 'Scale', which .* knows .*AvgPool2d, .*Register a kind"
    with pytest.raises(pycnn.FileError, match=message):
        pycnn.load_model(tmp_path / "f")


def test_what_cannot_be_registered(clean_table):
    with pytest.raises(TypeError, match="expected a class of layers"):
        modelfile.register(Scale())
    for name in ("ReLU", "Sequential"):
        with pytest.raises(ValueError, match=f"another kind of layer called {name}"):
            modelfile.register(type(name, (ReLU,), {}))
    modelfile.register(Scale)
    with pytest.raises(ValueError, match="another kind of layer called Scale"):
        modelfile.register(type("Scale", (ReLU,), {}))


def test_what_cannot_be_saved(tmp_path):
    with pytest.raises(TypeError, match="the model is a ReLU; expected a Sequential"):
        pycnn.save_model(ReLU(), tmp_path / "f")
    same_name = type("ReLU", (ReLU,), {})
    with pytest.raises(TypeError, match="layer 0 is a ReLU, a kind that files have no name for"):
        pycnn.save_model(Sequential(same_name()), tmp_path / "f")
    model = Sequential(Linear(2, 2), Linear(2, 2))
    model[1].astype(np.float64)
    with pytest.raises(TypeError, match="mixes float32 and float64"):
        pycnn.save_model(model, tmp_path / "f")
    assert os.listdir(tmp_path) == []


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "m.safetensors"
    pycnn.save_model(Sequential(Conv2d(1, 2, 3), Flatten(), Linear(8, 3)), path)
    return path


def change(path, spoil):
    tensors, metadata = read_safetensors(path)
    spoil(tensors, metadata)
    write_safetensors(path, tensors, metadata)


def put(*keys_and_value):
    *keys, last, value = keys_and_value

    def spoil(tensors, metadata):
        place = metadata
        for key in keys:
            place = place[key]
        place[last] = value

    return spoil


CONV = ("model", "layers", 0)
SPOILT = {
    "no_description": (lambda t, m: m.clear(), "no description of a pycnn model.*PyTorch"),
    "checkpoint": (put("kind", "checkpoint"), "a checkpoint without the number of its format"),
    "another_kind": (put("kind", "picture"), "this holds a picture, not a model"),
    "no_model": (put("model", None), "description of the model is missing"),
    "newer": (put("model", "format", 3), "format 3; this version .* up to 2: install a newer"),
    "odd_format": (put("model", "format", "1"), "format '1'; expected a number"),
    "more": (put("model", "color", 1), "lacks or does not know: color"),
    "less": (lambda t, m: m["model"].pop("dtype"), "lacks or does not know: dtype"),
    "dtype": (put("model", "dtype", "float16"), "dtype is 'float16'; expected"),
    "no_layers": (put("model", "layers", []), "has no list of layers"),
    "no_list": (put("model", "layers", 3), "has no list of layers"),
    "no_inner": (put(*CONV, {"kind": "Sequential"}), "layer 0 has no list of layers"),
    "no_layer": (put(*CONV, "ReLU"), "layer 0: found 'ReLU'; expected a kind"),
    "unknown": (put(*CONV, "kind", "Swish"), "layer 0 is of the kind 'Swish', which this version"),
    "unhashable": (put(*CONV, "kind", []), r"layer 0 is of the kind \[\], which this version"),
    "argument": (put(*CONV, "color", 1), r"layer 0 \(Conv2d\) has the arguments .*'color'"),
    "stride": (put(*CONV, "stride", "a"), "layer 0: Conv2d: stride is 'a'; expected"),
    "huge": (put(*CONV, "out_channels", 10**15), r"layer 0 \(Conv2d\): its weight is of shape"),
    "huge_kernel": (put(*CONV, "kernel_size", [10**9, 10**9]), "layer 0 .*weight is of shape"),
    "groups": (put(*CONV, "groups", 0), r"layer 0 \(Conv2d\): its weight is of shape"),
    "linear": (put("model", "layers", 2, "in_features", 9), "layer 2 .*does not fit its descr"),
    "missing": (lambda t, m: t.pop("2.weight"), r"layer 2 \(Linear\): its weight is missing"),
    "bias": (lambda t, m: t.pop("2.bias"), "missing: '2.bias'"),
    "tensor": (lambda t, m: t.update(x=np.zeros(1)), "unexpected: 'x'"),
    "type": (lambda t, m: t.update({"0.bias": np.zeros(2)}), "'0.bias' is float64; expected"),
    "std": (put("model", "normalization", "std", -1.0), "std is -1.0; expected numbers above 0"),
    "norm": (put("model", "normalization", None), "expected a dict of mean and std"),
    "shape": (put("model", "input_shape", [5, 5, 3]), "expected in_channels = 1"),
    "odd_shape": (put("model", "input_shape", ["a"]), "input_shape is .*; expected that of one"),
}


@pytest.mark.parametrize("name", SPOILT)
def test_other_files_get_a_sentence(saved, name):
    spoil, message = SPOILT[name]
    change(saved, spoil)
    with pytest.raises(pycnn.FileError, match=message) as caught:
        pycnn.load_model(saved)
    assert str(caught.value).startswith(str(saved))


def test_truncated_and_missing_files(saved):
    whole = saved.read_bytes()
    for length in (0, 7, 8, 9, len(whole) // 2, len(whole) - 1):
        saved.write_bytes(whole[:length])
        with pytest.raises(pycnn.FileError, match="expected a whole safetensors file"):
            pycnn.load_model(saved)
    saved.unlink()
    with pytest.raises(pycnn.FileError, match="No such file"):
        pycnn.load_model(saved)


def test_other_programs_read_the_description(saved):
    content = saved.read_bytes()
    n = int.from_bytes(content[:8], "little")
    (key, text), *others = json.loads(content[8 : 8 + n])["__metadata__"].items()
    assert (key, others) == ("pycnn", [])
    assert text == json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"))
    assert [layer["kind"] for layer in json.loads(text)["model"]["layers"]] == [
        "Conv2d",
        "Flatten",
        "Linear",
    ]

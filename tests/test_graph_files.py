"""Networks that branch as files, as ONNX and compiled."""

import copy
import os
import pickle
import threading

import numpy as np
import pytest
from graph_cases import Repeat, Residual, Twice, UNet, all_of, every_network, make, step

import pycnn
from pycnn import interop, layers, modelfile
from pycnn._formats import description
from pycnn.graph import compile as compiling
from pycnn.layers import Linear, Module
from pycnn.preprocessing import Normalization


@pytest.fixture(autouse=True)
def upsample_is_known(monkeypatch):
    monkeypatch.setattr(description, "registered", {})
    modelfile.register(Repeat)


def close(found, expected):
    for one, other in zip(all_of(found), all_of(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=2e-5 * max(1, np.abs(other).max()))


def moved(name):
    """(model in eval mode, xs): its statistics are not those of a new one."""
    model, xs, _ = make(name)
    model.forward(*xs)
    model.forward(*xs)
    return model.eval(), xs


# Files


@every_network
def test_a_file_holds_the_network_without_its_class(name, tmp_path):
    model, xs, dys = make(name)
    model.forward(*xs)
    path = tmp_path / "m.safetensors"
    pycnn.save_model(model, path)
    twin = pycnn.load_model(path)
    assert type(twin) in (layers.Graph, layers.Sequential)
    assert not twin.training
    assert list(twin.state_dict()) == list(model.state_dict())
    for one, other in zip(
        all_of(twin.forward(*xs)), all_of(model.eval().forward(*xs)), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    model.train()
    twin.train().load_rng_state(model.rng_state())
    for one, other in zip(step(twin, xs, dys), step(model, xs, dys), strict=True):
        np.testing.assert_array_equal(one, other)
    again = tmp_path / "n.safetensors"
    pycnn.save_model(twin, again)
    assert pycnn.load_model(again).state_dict().keys() == twin.state_dict().keys()


def test_each_mode_has_its_calls(tmp_path):
    class Net(Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = Linear(2, 2, rng=0), Linear(2, 3, rng=1)

        def forward(self, x):
            y = self.a(x)
            return (y, self.b(y)) if self.training else y

    model, x = Net(), np.ones((1, 2), np.float32)
    model.input_shape = (2,)
    model.class_names = None
    model.normalization = Normalization(0.5, 2.0)
    pycnn.save_model(model, tmp_path / "f")
    assert model.training
    twin = pycnn.load_model(tmp_path / "f")
    assert twin.normalization == model.normalization
    assert twin.input_shape == (2,)
    np.testing.assert_array_equal(twin(x), model.a(x))
    y, z = twin.train()(x)
    np.testing.assert_array_equal(z, model.b(y))


def test_what_cannot_be_saved(tmp_path):
    with pytest.raises(ValueError, match=r"shape of the model's input is not known"):
        pycnn.save_model(Residual(), tmp_path / "f")
    model, xs, _ = make("residual")
    model.gain = layers.Parameter(np.ones(2, np.float32))
    model.forward(*xs)
    with pytest.raises(TypeError, match=r"module Residual has arrays of its own, gain"):
        pycnn.save_model(model, tmp_path / "f")
    description.registered.clear()
    model, xs, _ = make("unet")
    model.forward(*xs)
    with pytest.raises(TypeError, match=r"layer up is a Repeat, a kind that files have no name"):
        pycnn.save_model(model, tmp_path / "f")
    with pytest.raises(TypeError, match="expected a class of layers, not of modules"):
        modelfile.register(UNet)
    assert not os.listdir(tmp_path)


def damaged(change):
    model, xs, _ = make("twice")
    model.forward(*xs)
    told = copy.deepcopy(modelfile.describe(model))
    change(told)
    return told


def gives_the_input(d):
    """The last call of training mode writes over the input, and that is the output."""
    d["training"]["calls"][-1][2] = [0]
    d["training"]["outputs"] = [0]


CHANGES = {
    "input given": gives_the_input,
    "unknown layer": lambda d: d["eval"]["calls"][0].__setitem__(0, "nobody"),
    "value of nobody": lambda d: d["eval"]["calls"][0].__setitem__(1, [99]),
    "given twice": lambda d: d["training"]["calls"][1].__setitem__(2, [1]),
    "no outputs": lambda d: d["training"].__setitem__("outputs", []),
    "no inputs": lambda d: d.__setitem__("inputs", []),
    "other shape": lambda d: d.__setitem__("inputs", [[4, 5, 7]]),
    "two results": lambda d: d["eval"]["calls"][0].__setitem__(2, [1, 50]),
    "layers in a list": lambda d: d.__setitem__("layers", {"conv": d["layers"][0]}),
    "one name twice": lambda d: d["layers"].append(d["layers"][0]),
    "no name": lambda d: d["layers"][0].pop("name"),
    "no calls": lambda d: d["eval"].pop("calls"),
    "calls of one": lambda d: d["eval"]["calls"][0].pop(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_damaged_description_is_a_sentence(change):
    with pytest.raises(ValueError, match=r"damaged|has shape|no list of layers"):
        modelfile.build(damaged(CHANGES[change]))


def test_todays_chains_are_as_they_were():
    model = layers.Sequential(layers.Conv2d(1, 2, 3, rng=0), layers.ReLU())
    told = modelfile.describe(model)
    assert told["format"] == 1
    old = copy.deepcopy(told)
    del old["layers"][0]["algorithm"]  # files of before had none
    assert modelfile.build(old)[0].algorithm == "auto"
    named = layers.Sequential(layers.Conv2d(1, 2, 3, algorithm="direct"))
    assert modelfile.build(modelfile.describe(named))[0].algorithm == "direct"
    shared = layers.Conv2d(1, 1, 1)
    twice = layers.Sequential(shared, shared)
    twice.input_shape = (2, 2, 1)
    assert modelfile.describe(twice)["format"] == 2


@pytest.mark.parametrize("kind", sorted(description.KINDS))
def test_every_argument_of_a_kind_is_an_attribute(kind):
    made = {"Conv2d": (2, 4, 3), "Linear": (2, 3), "BatchNorm2d": (2,), "Split": ([1, 2],),
            "ChannelShuffle": (2,), "Permute": ((0, 1),), "Reshape": ((-1,),), "DepthToSpace": (2,),
            "SpaceToDepth": (2,), "Resize": (2,), "Upsample": (2,),
            "Pad": (((1, 0), (0, 2)),), "Crop": (((1, 0), (0, 2)),),
            "MaxPool2d": (2,), "AvgPool2d": (2,),
            "MaxPool1d": (2,), "AvgPool1d": (2,), "AdaptiveMaxPool2d": (2,),
            "AdaptiveAvgPool2d": (2,), "Conv1d": (2, 4, 3), "ConvTranspose2d": (2, 4, 3),
            "BatchNorm1d": (3,), "ChannelAffine": (3,), "Combine": ("divide", (2, 1), True),
            "Mean": ((1, -1), True), "Power": (0.5,), "LayerNorm": (3,),
            "GroupNorm": (2, 4), "LocalResponseNorm": (5, 0.1, 0.5, 2)}  # fmt: skip
    layer = description.KINDS[kind].layer(*made.get(kind, ()))
    assert all(hasattr(layer, name) for name in description.KINDS[kind].arguments)
    entry = description._describe(layer, "0")
    assert description._describe(description._build(entry, "0"), "0") == entry


def test_torchs_names_and_layouts_of_a_residual_network():
    model, xs = moved("residual")
    d = interop.to_torch_state_dict(model)
    assert d["blocks.1.shortcut.0.weight"].shape == (8, 6, 1, 1)
    assert d["blocks.1.shortcut.1.num_batches_tracked"] == 0
    other = Residual(rng=9).eval()
    interop.load_torch_state_dict(other, d, input_shape=(None, 6, 5, 3))
    np.testing.assert_array_equal(other(*xs), model(*xs))


# ONNX


@pytest.mark.parametrize("name", ["residual", "residual_without_norm", "twice", "functional"])
def test_onnx_computes_the_same(name, tmp_path):
    onnx = pytest.importorskip("onnx", reason="onnx is in the extra: pip install '.[onnx]'")
    from onnx.reference import ReferenceEvaluator

    model, (x,) = moved(name)
    path = tmp_path / "m.onnx"
    pycnn.onnx.export_onnx(model, path, (None, *x.shape[1:]))
    (y,) = ReferenceEvaluator(onnx.load(path)).run(None, {"images": x})
    close(y, model(x))


@pytest.mark.parametrize("name", ["many", "ends"])
def test_onnx_has_several_inputs_and_outputs(name, tmp_path):
    onnx = pytest.importorskip("onnx", reason="onnx is in the extra: pip install '.[onnx]'")
    from onnx.reference import ReferenceEvaluator

    model, xs = moved(name)
    path = tmp_path / "m.onnx"
    pycnn.onnx.export_onnx(model, path, *((None, *x.shape[1:]) for x in xs))
    names = ["images"] if len(xs) == 1 else [f"input{i}" for i in range(len(xs))]
    found = ReferenceEvaluator(onnx.load(path)).run(None, dict(zip(names, xs, strict=True)))
    close(tuple(found), model(*xs))


# Compiled


@every_network
def test_compiled_is_eval_mode(name):
    model, xs = moved(name)
    expected = model(*xs)
    compiled = model.compile_inference(*((None, *x.shape[1:]) for x in xs))
    close(compiled(*xs), expected)
    for one, other in zip(all_of(compiled(*(x[1:] for x in xs))), all_of(expected), strict=True):
        np.testing.assert_allclose(one, other[1:], rtol=0, atol=1e-4)
    empty = compiled(*(x[:0] for x in xs))
    assert [y.shape for y in all_of(empty)] == [(0, *y.shape[1:]) for y in all_of(expected)]
    plain = model.fuse(False).compile_inference(*((None, *x.shape[1:]) for x in xs))
    close(plain(*xs), expected)


@pytest.mark.parametrize("chunk", [1, 2, 5])
@every_network
def test_chunks_change_nothing(name, chunk, monkeypatch):
    model, xs = moved(name)
    shapes = [(None, *x.shape[1:]) for x in xs]
    whole = model.compile_inference(*shapes)
    monkeypatch.setattr(compiling, "CHUNK_BYTES", chunk * whole.bytes_per_image)
    parts = model.compile_inference(*shapes)
    batch = [np.concatenate([x, -x, 2 * x]) for x in xs]
    close(parts(*batch), whole(*batch))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_compiled_network_is_copied_and_pickled(copied):
    model, xs = moved("residual")
    compiled = model.compile_inference((None, *xs[0].shape[1:]))
    expected = compiled(*xs)
    for parameter in model.parameters():
        parameter.data[...] = np.nan
    np.testing.assert_array_equal(copied(compiled)(*xs), expected)
    np.testing.assert_array_equal(compiled(*xs), expected)


def test_threads_and_forks_share_a_compiled_network():
    model, (x,) = moved("residual")
    compiled = model.compile_inference((None, *x.shape[1:]))
    batches = [np.float32(i + 1) * x for i in range(4)]
    expected = [compiled(batch) for batch in batches]
    results = [[] for _ in batches]

    def work(i):
        for _ in range(20):
            results[i].append(compiled(batches[i]))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(batches))]
    for thread in threads:
        thread.start()
    child = os.fork()
    if child == 0:
        right = np.array_equal(compiled(batches[0]), expected[0])
        os._exit(0 if right else 1)
    for thread in threads:
        thread.join()
    assert os.waitpid(child, 0)[1] == 0
    for found, right in zip(results, expected, strict=True):
        assert len(found) == 20
        assert all(np.array_equal(y, right) for y in found)


def test_eval_mode_runs_in_several_threads():
    model, (x,) = moved("residual")
    expected = [model(np.float32(i + 1) * x) for i in range(3)]
    wrong = []

    def work(i):
        for _ in range(30):
            if not np.array_equal(model(np.float32(i + 1) * x), expected[i]):
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_the_arena_is_a_part_of_all_maps():
    model = Twice()
    compiled = model.compile_inference((None, 8, 8, 3))
    assert 0 < compiled.bytes_per_image <= 3 * 8 * 8 * 3 * 4


@pytest.mark.parametrize("compiled", [False, True])
def test_predict_normalises_as_trained(compiled, rng):
    model, _ = moved("residual")
    model.normalization = Normalization((0.1, 0.2, 0.3), 0.5)
    images = rng.integers(0, 256, (7, 6, 5, 3), np.uint8)
    x = images.astype(np.float32) / np.float32(255)
    expected = model(model.normalization(x))
    model.train()
    who = model.compile_inference((None, 6, 5, 3)) if compiled else model
    for given in (images, x):
        np.testing.assert_allclose(who.predict(given, batch_size=3), expected, atol=1e-5)
    assert model.training
    assert who.predict(images[:0]).shape == (0, 4)
    label = "CompiledModel" if compiled else "Residual"
    with pytest.raises(ValueError, match=rf"^{label}\.predict: images are float32 with whole"):
        who.predict(images.astype(np.float32))
    with pytest.raises(TypeError, match=rf"^{label}\.predict: images is float64 \(7, 6, 5, 3\)"):
        who.predict(x.astype(np.float64))
    with pytest.raises(TypeError, match=rf"^{label}\.predict: images is a list"):
        who.predict([1, 2])


def test_a_compiled_network_checks_its_inputs():
    model, xs = moved("many")
    compiled = model.compile_inference((None, 5), (None, 3))
    with pytest.raises(TypeError, match="CompiledModel: got 1 arrays; expected 2"):
        compiled(xs[0])
    with pytest.raises(ValueError, match=r"the inputs have \[4, 3\] images; expected the same N"):
        compiled(xs[0], xs[1][:3])
    with pytest.raises(ValueError, match=r"x 1 has shape \(4, 2\); expected \[N, 3\]"):
        compiled(xs[0], xs[1][:, :2])
    with pytest.raises(TypeError, match=r"x 0 is uint8; .*images of bytes are for predict"):
        compiled(np.zeros((4, 5), np.uint8), xs[1])
    assert compiled.input_shape == ((None, 5), (None, 3))
    assert compiled.output_shape == ((None, 2), (None, 4), (None, 3))

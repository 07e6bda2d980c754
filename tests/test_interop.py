"""PyTorch's layout: the order of Flatten by arithmetic, then PyTorch itself where installed."""

import numpy as np
import pytest

from pycnn import interop, layers, models
from pycnn._formats import files
from pycnn.layers import Conv2d, Flatten, Linear, MaxPool2d, ReLU, Sequential


def spread(model, rng):
    """No two parameters alike, biases and statistics too."""
    d = model.state_dict()
    for name, array in d.items():
        d[name] = rng.standard_normal(array.shape).astype(array.dtype) * np.float32(0.3)
        if name.endswith("running_var"):
            d[name] = np.abs(d[name]) + np.float32(0.5)
    model.load_state_dict(d)
    return model


def test_names_layouts_and_the_order_of_flatten(rng):
    model = spread(
        Sequential(Conv2d(4, 6, (2, 3), groups=2), Flatten(), ReLU(), Linear(36, 5)), rng
    )
    d = interop.to_torch_state_dict(model)
    assert list(d) == ["0.weight", "0.bias", "3.weight", "3.bias"]
    weight = model[0].weight.data  # [KH, KW, C / groups, OC]
    assert d["0.weight"].shape == (6, 2, 2, 3)
    assert d["0.weight"][5, 1, 0, 2] == weight[0, 2, 1, 5]
    assert d["3.weight"].shape == (5, 36)
    image = rng.standard_normal((3, 2, 6)).astype(np.float32)  # [H, W, C]
    channels_first = image.transpose(2, 0, 1).reshape(-1)
    np.testing.assert_allclose(
        d["3.weight"] @ channels_first,
        image.reshape(-1) @ model[3].weight.data,
        rtol=1e-5,
        atol=1e-5,
    )
    assert all(array.flags.c_contiguous for array in d.values())
    d["0.weight"][...] = 0
    assert model[0].weight.data.any()


MODELS = {
    "lecture": (models.mnist_cnn, None),
    "nested": (
        lambda: Sequential(Sequential(Conv2d(2, 3, 3), ReLU()), Flatten(), Linear(12, 3)),
        None,
    ),
    "features": (lambda: Sequential(Linear(6, 4), ReLU(), Linear(4, 2, bias=False)), None),
    "pixels": (lambda: Sequential(MaxPool2d(2), Flatten(), Linear(12, 2)), (None, 4, 4, 3)),
    "flattened_twice": (lambda: Sequential(Flatten(), Flatten(), Linear(12, 2)), (1, 2, 3, 2)),
    "flat_input": (lambda: Sequential(Flatten(), Linear(12, 2)), (None, 12)),
}


@pytest.mark.parametrize("name", MODELS)
def test_there_and_back(name, rng):
    make, input_shape = MODELS[name]
    model, other = spread(make(), rng), make()
    d = interop.to_torch_state_dict(model, input_shape=input_shape)
    interop.load_torch_state_dict(other, d, input_shape=input_shape)
    for key, array in model.state_dict().items():
        np.testing.assert_array_equal(other.state_dict()[key], array)


def test_features_that_are_no_image_keep_their_order(rng):
    model = spread(Sequential(Flatten(), Linear(12, 2)), rng)
    d = interop.to_torch_state_dict(model, input_shape=(None, 12))
    np.testing.assert_array_equal(d["1.weight"], model[1].weight.data.T)


def test_the_shape_of_the_input_is_asked_for_only_where_needed(rng):
    model = spread(Sequential(ReLU(), Flatten(), Linear(12, 2)), rng)
    message = r"to_torch_state_dict: layer 2 \(Linear\) comes after a Flatten .*expected input_sha"
    with pytest.raises(ValueError, match=message):
        interop.to_torch_state_dict(model)
    given = interop.to_torch_state_dict(model, input_shape=(None, 2, 2, 3))
    model.input_shape = (2, 2, 3)
    np.testing.assert_array_equal(interop.to_torch_state_dict(model)["2.weight"], given["2.weight"])
    with pytest.raises(ValueError, match="expected in_features = 12"):
        interop.to_torch_state_dict(model, input_shape=(None, 2, 2, 4))
    with pytest.raises(TypeError, match="only N may be None"):
        interop.to_torch_state_dict(model, input_shape=(None, None, 2, 3))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("0.bias"), "missing: '0.bias'"),
        (lambda d: d.update(extra=np.zeros(1)), "unexpected: 'extra'"),
        (
            lambda d: d.update({"0.weight": np.zeros((3, 3, 1, 2), np.float32)}),
            r"'0.weight' has shape \(3, 3, 1, 2\); expected \(2, 1, 3, 3\)",
        ),
        (lambda d: d.update({"0.bias": np.zeros(2)}), "'0.bias' is float64; expected float32"),
        (lambda d: d.update({"0.bias": [0.0, 0.0]}), "'0.bias' is a list; expected a NumPy array"),
        (
            lambda d: d.update({"0.num_batches_tracked": np.zeros(())}),
            "unexpected: '0.num_batches_tracked'",
        ),
    ],
)
def test_loading_is_strict(change, message, rng):
    model = spread(Sequential(Conv2d(1, 2, 3), Flatten(), Linear(8, 3)), rng)
    before, d = model.state_dict(), interop.to_torch_state_dict(model)
    d = {name: array * 2 for name, array in d.items()}
    change(d)
    with pytest.raises(ValueError, match=f"load_torch_state_dict: {message}.*Nothing was loaded"):
        interop.load_torch_state_dict(model, d)
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


class Tensor:
    """What is used of PyTorch's."""

    def __init__(self, array, dtype="torch.float32"):
        self.array, self.dtype = array, dtype

    def detach(self):
        return self

    cpu = detach

    def numpy(self):
        if self.dtype == "torch.bfloat16":
            raise TypeError("Got unsupported ScalarType BFloat16")
        return self.array


def test_tensors_and_files_are_taken(rng, tmp_path):
    model = spread(Sequential(Conv2d(2, 3, (1, 2)), Flatten(), Linear(12, 4)), rng)
    d = interop.to_torch_state_dict(model)
    path = tmp_path / "weights.safetensors"
    files.write_safetensors(path, d, {})
    for given in ({name: Tensor(array) for name, array in d.items()}, path, str(path)):
        other = Sequential(Conv2d(2, 3, (1, 2)), Flatten(), Linear(12, 4))
        interop.load_torch_state_dict(other, given)
        for key, array in model.state_dict().items():
            np.testing.assert_array_equal(other.state_dict()[key], array)
    d["0.bias"] = Tensor(d["0.bias"], "torch.bfloat16")
    with pytest.raises(TypeError, match=r"'0.bias' is torch.bfloat16; expected float32.*Nothing"):
        interop.load_torch_state_dict(model, d)
    with pytest.raises(files.FileError, match="No such file"):
        interop.load_torch_state_dict(model, tmp_path / "none.safetensors")


def test_other_models_and_layers_are_refused():
    with pytest.raises(TypeError, match="model is a ReLU; expected a Sequential"):
        interop.to_torch_state_dict(ReLU())
    with pytest.raises(TypeError, match="got a list; expected a dict of arrays"):
        interop.load_torch_state_dict(Sequential(Linear(1, 1)), [])

    class Mine(ReLU):
        def __init__(self):
            super().__init__()
            self.scale = layers.Parameter(np.ones(1, np.float32))

    with pytest.raises(TypeError, match=r"layer 0 is a Mine, whose arrays have no counterpart"):
        interop.to_torch_state_dict(Sequential(Mine()))
    silent = type("Silent", (ReLU,), {})
    assert interop.to_torch_state_dict(Sequential(silent())) == {}
    model = Sequential(Conv2d(1, 1, 1), silent(), Flatten(), Linear(4, 1))
    with pytest.raises(ValueError, match=r"layer 3 \(Linear\) comes after"):
        interop.to_torch_state_dict(model)
    interop.to_torch_state_dict(model, input_shape=(None, 2, 2, 1))


def test_batch_norm_has_its_counter(rng):
    make = lambda: Sequential(  # noqa: E731
        Conv2d(2, 3, 1), layers.BatchNorm2d(3), Flatten(), Linear(12, 2)
    )
    model, other = spread(make(), rng), make()
    d = interop.to_torch_state_dict(model)
    assert d["1.num_batches_tracked"].shape == ()
    assert d["1.num_batches_tracked"] == 0
    d["1.num_batches_tracked"] = np.array(5)
    interop.load_torch_state_dict(other, d)
    del d["1.num_batches_tracked"]
    interop.load_torch_state_dict(other, d)
    np.testing.assert_array_equal(other.state_dict()["1.running_var"], d["1.running_var"])
    d["1.running_var"] = -d["1.running_var"]
    with pytest.raises(ValueError, match="expected 0 or more"):
        interop.load_torch_state_dict(other, d)


def torch_pairs(nn):
    """(a model, PyTorch's of the same layers in the same places, shape of x)."""
    yield (
        models.mnist_cnn(),
        nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2, ceil_mode=True),
            nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2, ceil_mode=True),
            nn.Conv2d(64, 128, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2, ceil_mode=True),
            nn.Flatten(), nn.Linear(2048, 10),
        ),
        (2, 28, 28, 1),
    )  # fmt: skip
    yield (
        Sequential(
            Conv2d(4, 6, (3, 2), 2, (1, 0), 1, 2), layers.Dropout(), Flatten(), Linear(54, 5)
        ),
        nn.Sequential(
            nn.Conv2d(4, 6, (3, 2), 2, (1, 0), 1, 2), nn.Dropout(), nn.Flatten(), nn.Linear(54, 5)
        ),
        (3, 5, 6, 4),
    )
    yield (
        Sequential(
            Conv2d(2, 5, 3, bias=False), layers.BatchNorm2d(5), layers.GlobalAvgPool2d(),
            Linear(5, 4),
        ),
        nn.Sequential(
            nn.Conv2d(2, 5, 3, bias=False), nn.BatchNorm2d(5),
            nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), nn.Linear(5, 4),
        ),
        (3, 6, 5, 2),
    )  # fmt: skip


@pytest.mark.filterwarnings("default")
def test_pytorch_computes_the_same_both_ways(rng):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    torch.manual_seed(0)
    for model, net, shape in torch_pairs(torch.nn):
        spread(model, rng)
        x = rng.standard_normal(shape).astype(np.float32)
        channels_first = torch.from_numpy(x.transpose(0, 3, 1, 2).copy())
        d = interop.to_torch_state_dict(model)
        net.load_state_dict({name: torch.from_numpy(array) for name, array in d.items()})
        net.eval()
        with torch.no_grad():
            theirs = net(channels_first).numpy()
        np.testing.assert_allclose(model.eval()(x), theirs, rtol=1e-4, atol=1e-4)

        for parameter in net.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        interop.load_torch_state_dict(model, net.state_dict())
        with torch.no_grad():
            theirs = net(channels_first).numpy()
        # Weights of 0.3 make large sums, of which a logit near 0 is the small rest.
        np.testing.assert_allclose(model(x), theirs, rtol=0, atol=1e-5 * np.abs(theirs).max())

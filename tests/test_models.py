"""Networks of the field: torchvision's names, shapes and answers; they learn, and compile."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
import torchvision_answers
from torchvision_answers import RECORDED

import pycnn.init
from pycnn import interop, losses, models, optim
from pycnn.models import initial

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "models.md"

OURS = {"lenet5": 61_706, "resnet12_small": 396_410, "resnet20": 272_474, "unet": 31_036_546}
# The slow ones: large, and as others, but for normalisation or the number of layers.
LARGE = ("vgg11", "vgg11_bn", "vgg16", "resnet34")
ANSWERED = [pytest.param(name, marks=[pytest.mark.slow] * (name in LARGE)) for name in RECORDED]


@pytest.fixture
def unset(monkeypatch):
    """Weights are zeros, so that a large network takes no time and no memory."""
    monkeypatch.setattr(pycnn.init, "normal", lambda shape, std, rng: np.zeros(shape, np.float32))
    monkeypatch.setattr(initial, "normal", lambda *_, **__: None)
    monkeypatch.setattr(initial, "uniform", lambda *_, **__: None)


def torch_shapes(model):
    views = interop._views("test", model, None)
    return {name: shape for name, _, shape in views}


@pytest.mark.parametrize("name", models.NETWORKS)
def test_parameters_are_torchvisions(name, unset):
    model = models.make(name)
    count = sum(parameter.data.size for parameter in model.parameters())
    if name in OURS:
        assert count == OURS[name]
    else:
        parameters, checksum, _ = RECORDED[name]
        assert (count, torchvision_answers.checksum(torch_shapes(model))) == (parameters, checksum)
    assert f"{count:,} parameters" in models.NETWORKS[name].__doc__


@pytest.mark.parametrize("name", ANSWERED)
def test_answers_are_torchvisions(name, unset):
    """To 1e-4 of the largest; with arrays as torchvision holds them."""
    model = models.make(name, num_classes=torchvision_answers.CLASSES)
    interop.load_torch_state_dict(model, torchvision_answers.arrays(torch_shapes(model)))
    expected = np.array(RECORDED[name][2])
    answers = model.eval()(torchvision_answers.images(name))[:, : torchvision_answers.KEPT]
    np.testing.assert_allclose(answers, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


@pytest.mark.slow
@pytest.mark.parametrize("name", RECORDED)
def test_torchvision_itself_answers_the_same(name):
    """Where both are installed: its own arrays, and those that pycnn gives back."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    try:
        net = torchvision_answers.torchvision_network(name)
    except ImportError:
        pytest.skip("torchvision is not installed")
    model = models.make(name, num_classes=torchvision_answers.CLASSES)
    interop.load_torch_state_dict(model, net.state_dict())
    x = np.random.default_rng(0).standard_normal((2, 224, 224, 3)).astype(np.float32)
    with torch.no_grad():
        expected = net(torch.from_numpy(x.transpose(0, 3, 1, 2).copy())).numpy()
    answers = model.eval()(x)
    np.testing.assert_allclose(answers, expected, rtol=0, atol=1e-4 * np.abs(expected).max())
    d = interop.to_torch_state_dict(model)
    net.load_state_dict({key: torch.from_numpy(array) for key, array in d.items()})


SMALL = {
    "lenet5": (28, 28), "resnet20": (16, 20), "resnet18": (40, 33),
    "densenet121": (32, 40), "squeezenet1_1": (35, 48), "googlenet": (33, 48),
    "mobilenet_v2": (33, 40), "mobilenet_v3_small": (33, 40), "efficientnet_b0": (33, 40),
}  # fmt: skip


@pytest.mark.parametrize("name", [name for name in SMALL if name != "resnet18"])
def test_it_learns_a_batch(name):
    """Other channels and classes; every parameter gets a gradient, and the loss falls."""
    model = models.make(name, num_classes=5, in_channels=2, rng=3)
    rng = np.random.default_rng(1)
    x = rng.standard_normal((4, *SMALL[name], 2)).astype(np.float32)
    labels = np.array([0, 4, 2, 3])
    optimizer, criterion = optim.Adam(model.parameters(), lr=1e-3), losses.SoftmaxCrossEntropy()
    found = []
    for _ in range(4):
        loss, dlogits = criterion(model(x), labels)
        optimizer.zero_grad()
        model.backward(dlogits, input_gradient=False)
        optimizer.step()
        found.append(loss)
    assert math.isfinite(found[-1])
    assert min(found[1:]) < found[0]
    without = [p.name for p in model.parameters() if not p.grad.any()]
    assert len(without) < 0.1 * len(model.parameters()), without


def test_a_unet_learns_maps():
    model = models.unet(2, 3, (4, 6, 8), rng=0)
    rng = np.random.default_rng(1)
    x = rng.standard_normal((2, 12, 8, 2)).astype(np.float32)
    labels = (x[..., 0] > 0).astype(np.int64).reshape(-1)
    optimizer, criterion = optim.Adam(model.parameters(), lr=1e-2), losses.SoftmaxCrossEntropy()
    found = []
    for _ in range(20):
        y = model(x)
        assert y.shape == (2, 12, 8, 3)
        loss, dy = criterion(y.reshape(-1, 3), labels)
        optimizer.zero_grad()
        model.backward(dy.reshape(y.shape), input_gradient=False)
        optimizer.step()
        found.append(loss)
    assert found[-1] < 0.5 * found[0]
    assert all(parameter.grad.any() for parameter in model.parameters())


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "squeezenet1_1", "lenet5"])
def test_compiled_it_answers_the_same(name):
    model = models.make(name, num_classes=7, rng=0).eval()
    H, W = SMALL[name]
    channels = 1 if name == "lenet5" else 3
    x = np.random.default_rng(0).standard_normal((2, H, W, channels)).astype(np.float32)
    expected = model(x)
    compiled = model.compile_inference((None, H, W, channels))
    np.testing.assert_allclose(compiled(x), expected, atol=1e-4 * np.abs(expected).max())


def test_initial_values_are_torchvisions():
    """Their spread, for each of the rules."""
    resnet = models.resnet18(rng=0)
    wide = resnet.layer2[0].conv1.weight.data  # 3 x 3, 64 to 128 channels
    assert wide.std() == pytest.approx(math.sqrt(2 / (9 * 128)), rel=0.02)
    assert np.abs(resnet.fc.weight.data).max() == pytest.approx(1 / math.sqrt(512), rel=1e-3)
    assert resnet.fc.bias.data.any()
    mobile = models.mobilenet_v2(rng=0)
    assert mobile.classifier[1].weight.data.std() == pytest.approx(0.01, rel=0.02)
    assert not mobile.classifier[1].bias.data.any()
    depthwise = mobile.features[17].conv[1][0].weight.data
    assert depthwise.std() == pytest.approx(math.sqrt(2 / (9 * 960)), rel=0.03)
    squeeze = models.squeezenet1_1(rng=0)
    fire = squeeze.features[12].squeeze.weight.data
    assert np.abs(fire).max() == pytest.approx(math.sqrt(6 / 512), rel=1e-3)
    assert squeeze.classifier[1].weight.data.std() == pytest.approx(0.01, rel=0.02)
    google = models.googlenet(rng=0).inception5b.branch1.conv.weight.data
    assert np.abs(google).max() <= 0.02
    assert google.std() == pytest.approx(0.0088, rel=0.02)


@pytest.mark.skipif(not DOCUMENT.exists(), reason="docs is a folder of the checkout")
def test_the_table_of_the_document_is_true(unset):
    """Parameters and MFLOP of each, one image of the size that the row names."""
    rows = re.findall(
        r"^\| `(\w+)` .* (\d+)x(\d+)x(\d+) \| ([\d,]+) \| ([\d,.]+) \|$",
        DOCUMENT.read_text(),
        re.MULTILINE,
    )
    assert {name for name, *_ in rows} == set(models.NETWORKS)
    for name, *shape, parameters, mflop in rows:
        model = models.make(name)
        count = sum(parameter.data.size for parameter in model.parameters())
        flop = model.flop_per_image((None, *map(int, shape)))
        assert (f"{count:,}", f"{flop / 1e6:,.1f}") == (parameters, mflop), name


def test_one_seed_gives_one_network():
    one, same, other = (models.make("resnet20", rng=seed).state_dict() for seed in (1, 1, 2))
    assert all(np.array_equal(one[name], same[name]) for name in one)
    assert not np.array_equal(one["conv1.weight"], other["conv1.weight"])


def test_an_unknown_name_is_told():
    with pytest.raises(ValueError, match=r"make: name is 'resnet'; expected one of .*resnet18"):
        models.make("resnet")


def test_auxiliary_classifiers_are_passed_over(unset):
    model = models.googlenet(num_classes=3)
    d = interop.to_torch_state_dict(model)
    d["aux1.fc1.weight"] = np.zeros((2, 2), np.float32)
    interop.load_torch_state_dict(model, d)
    d["aux.weight"] = np.zeros(2, np.float32)
    with pytest.raises(ValueError, match=r"unexpected: 'aux.weight'\. Nothing"):
        interop.load_torch_state_dict(model, d)

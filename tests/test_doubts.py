"""Pictures that are not one digit are refused, and no digit is."""

import json

import numpy as np
import pytest

from pycnn import datasets, models, predict, save_model
from pycnn._images import digits as _digits
from pycnn._images import doubts

Image = pytest.importorskip("PIL.Image", reason="Pillow is in an extra: pip install '.[images]'")


@pytest.fixture(scope="module")
def digits():
    return datasets.load_mnist().test.images[:1000, :, :, 0]


def picture(levels):
    return Image.fromarray(np.clip(levels, 0, 255).astype(np.uint8))


def verdict(levels):
    try:
        _digits.prepare(picture(levels))
    except doubts.NoDigit as error:
        return str(error)
    except _digits.NoInk:
        return "blank"
    return None


def enlarged(image, factor):
    side = factor * len(image)
    return np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC))


def placed(image, rng):
    canvas = np.zeros((60, 80), np.uint8)
    top, left = rng.integers(0, (33, 53))
    canvas[top : top + 28, left : left + 28] = image
    return canvas


@pytest.mark.slow
def test_no_digit_is_refused(digits, rng):
    for image in digits:
        assert verdict(image) is None
        assert verdict(255 - image) is None
        assert verdict(255 - enlarged(image, 5).astype(int)) is None
        assert verdict(placed(image, rng)) is None


def cut(image):
    columns = np.flatnonzero((image > 25).any(0))
    return image[:, columns[0] : columns[-1] + 1]


@pytest.mark.parametrize("gap", [2, 8])
def test_two_digits_side_by_side_are_several(digits, rng, gap):
    caught = 0
    for a, b in rng.integers(0, len(digits), (200, 2)):
        pair = np.concatenate([cut(digits[a]), np.zeros((28, gap), np.uint8), cut(digits[b])], 1)
        caught += "several digits" in (verdict(255 - np.pad(pair, 10)) or "")
    assert caught > 180  # 96 % of many


def test_strokes_apart_are_one_digit():
    """A 5 whose bar is apart, a 4 of an L and a short bar, a broken 1."""
    paper = np.zeros((200, 200))
    five, four, one = paper.copy(), paper.copy(), paper.copy()
    five[60:68, 80:130] = five[80:160, 80:88] = five[152:160, 80:140] = 255
    four[40:100, 60:68] = four[92:100, 60:110] = four[40:160, 120:128] = 255
    one[40:95, 100:108] = one[105:160, 100:108] = 255
    assert [verdict(x) for x in (five, four, one)] == [None] * 3


def test_two_digits_below_each_other_are_several(digits):
    column = np.concatenate([digits[3], digits[3]])  # a 0
    assert "several digits" in verdict(np.pad(column, 10))


@pytest.mark.parametrize("side", [28, 100, 300])
def test_noise_is_refused(rng, side):
    for _ in range(20):
        assert "looks like noise" in verdict(rng.integers(0, 256, (side, side)))
        assert "looks like noise" in verdict(255 * (rng.random((side, side)) < 0.3))


def blot_among_dots():
    dots = np.zeros((100, 100))
    dots[20:80:3, 10:40:2] = 255  # 20 x 15
    dots[40:50, 60:70] = 255
    return dots


@pytest.mark.parametrize(
    ("texture", "found"),
    [
        (255 * (np.add.outer(np.arange(100) // 8, np.arange(100) // 8) % 2), "outline of"),
        (np.tile(255 * (np.arange(100) // 6 % 2), (100, 1)), "outline of"),
        (np.pad(np.full((60, 60), 255), 20), "pixels thick"),
        (np.pad(np.kron(np.eye(8) * 255, np.pad(np.ones((5, 5)), 5)), 20), "8 pieces"),
        (blot_among_dots(), "75 % of its ink are specks"),
    ],
)
def test_a_texture_is_refused_with_what_was_found(texture, found):
    assert found in verdict(texture)


@pytest.fixture(scope="module")
def model_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "m.safetensors"
    model = models.mnist_cnn(rng=0)
    model.input_shape = (28, 28, 1)
    save_model(model, path)
    return str(path)


def test_the_command_refuses_and_force_tells(model_path, digits, tmp_path, capsys):
    black = np.zeros((28, 28))
    pair = np.concatenate([digits[0], digits[1]], 1)
    noise = np.random.default_rng(0).integers(0, 256, (28, 28))
    names = []
    for name, levels in (("black", black), ("noise", noise), ("pair", pair), ("good", digits[0])):
        names.append(str(tmp_path / f"{name}.png"))
        picture(levels).save(names[-1])
    assert predict.main([model_path, *names]) == 1
    out, err = capsys.readouterr()
    assert out.startswith(f"{names[3]}: ")
    for line, found in zip(
        err.splitlines(), ["nothing is drawn", "like noise", "several digits"], strict=True
    ):
        assert found in line
        assert line.endswith("; write --force to be told a class all the same.")
    assert predict.main([model_path, *names, "--force"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.count("    forced, but ") == 3
    assert predict.main([model_path, *names, "--force", "--json"]) == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [t["doubt"] is None for t in told] == [False, False, False, True]
    assert "several digits" in told[2]["doubt"]


@pytest.mark.parametrize(("scale", "sure"), [(0.0, False), (1e4, True)])
def test_an_unsure_network_says_so(digits, tmp_path, capsys, scale, sure):
    model = models.mnist_cnn(rng=0)
    model.parameters()[-2].data[...] *= scale  # 0: each class has 10 %
    model.parameters()[-1].data[...] = 0
    save_model(model, tmp_path / "m.safetensors")
    picture(digits[0]).save(tmp_path / "a.png")
    arguments = [str(tmp_path / "m.safetensors"), str(tmp_path / "a.png")]
    assert predict.main(arguments) == 0
    assert ("; not sure: below 60 %" in capsys.readouterr().out) == (not sure)
    assert predict.main([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["sure"] is sure

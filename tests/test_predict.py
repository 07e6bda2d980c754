"""The command that looks at pictures: what it makes of them, says of them, and its exit codes."""

import io
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

import pycnn
from pycnn import datasets, models, predict
from pycnn._images import digits as _digits
from pycnn._images import doubts
from pycnn.layers import Conv2d, Flatten, Linear, ReLU, Sequential
from pycnn.preprocessing import Normalization

Image = pytest.importorskip("PIL.Image", reason="Pillow is in an extra: pip install '.[images]'")


@pytest.fixture(scope="module")
def digits():
    return datasets.load_mnist().test.images[:200, :, :, 0]


@pytest.fixture(scope="module")
def model_path(tmp_path_factory):
    """A model that tells the digits of MNIST by one layer: trained for a moment."""
    data = datasets.load_mnist().train
    model = Sequential(Flatten(), Linear(784, 10))
    model.normalization, model.input_shape = Normalization(0.13, 0.31), (28, 28, 1)
    optimizer = pycnn.optim.Adam(model.parameters(), lr=0.01)
    for step in range(60):
        batch = slice(100 * step, 100 * step + 100)
        x = model.normalization(data.images[batch].astype(np.float32) / 255)
        _, dlogits = pycnn.losses.SoftmaxCrossEntropy()(model(x), data.labels[batch])
        optimizer.zero_grad()
        model.backward(dlogits, input_gradient=False)
        optimizer.step()
    path = tmp_path_factory.mktemp("model") / "m.safetensors"
    pycnn.save_model(model, path)
    return path


def as_picture(image, mode="L"):
    return Image.fromarray(image).convert(mode)


def framed(image, top=30, left=50, size=(120, 150), paper=0):
    canvas = np.full(size, paper, np.uint8)
    part = image if paper == 0 else paper - image
    canvas[top : top + 28, left : left + 28] = part
    return canvas


def test_a_prepared_image_is_taken_as_it_is(digits):
    for image in digits[:5]:
        y, steps = _digits.prepare(as_picture(image))
        np.testing.assert_array_equal(y, image / np.float32(255))
        assert steps == ["taken as it is"]


def test_mnist_in_a_large_frame_comes_back_as_it_was_made(digits):
    """Its box is 20 pixels already, so that nothing is scaled, and the centre of mass is found.

    Where the faintest ink at an edge is cut, the centre may move by a pixel: in a few of 200.
    """
    changed = [_digits.prepare(as_picture(framed(i)))[0] - i / 255 for i in digits]
    assert np.mean([np.abs(c).max() < 0.1 for c in changed]) > 0.97


def test_each_step_is_told(digits):
    big = as_picture(framed(digits[0], paper=255)).resize((600, 480)).convert("RGB")
    y, steps = _digits.prepare(big)
    assert steps[0] == "turned to grey"
    assert steps[1] == "inverted, since its background is bright"
    assert steps[2].startswith("cropped from 600 x 480 to ")
    assert steps[3].startswith("scaled to ")
    assert steps[4:] == ["centred by mass in 28 x 28"]
    assert np.corrcoef(y.ravel(), digits[0].ravel())[0, 1] > 0.95
    rows, columns = (np.flatnonzero((y > 0).any(axis)) for axis in (1, 0))
    assert max(np.ptp(rows), np.ptp(columns)) + 1 == 20
    mass = y.sum()
    for axis in (0, 1):
        centre = (y.sum(1 - axis) @ np.arange(28)) / mass
        assert 13.5 <= centre < 14.5


def test_transparent_pictures_of_either_ink(digits):
    for ink in (0, 255):
        pixels = np.zeros((28, 28, 4), np.uint8)
        pixels[..., :3] = ink
        pixels[..., 3] = digits[0]
        y, steps = _digits.prepare(Image.fromarray(pixels, "RGBA"))
        assert steps[0] == f"laid on {'white' if ink == 0 else 'black'}, since it is transparent"
        assert np.corrcoef(y.ravel(), digits[0].ravel())[0, 1] > 0.95


def test_sixteen_bits_and_other_sizes(digits):
    deep = Image.fromarray(framed(digits[0]).astype(np.uint16) * 100)
    y, steps = _digits.prepare(deep)
    high = 100 * int(digits[0].max())
    assert steps[0] == f"its levels of 0 to {high} scaled to 0 to 255"
    assert np.corrcoef(y.ravel(), digits[0].ravel())[0, 1] > 0.95
    y, _ = _digits.prepare(as_picture(framed(digits[0])), (14, 56))
    assert y.shape == (14, 56)
    assert np.ptp(np.flatnonzero(y.any(1))) + 1 == 10


def test_noise_is_no_ink(digits, rng):
    noisy = framed(digits[0]).astype(int) + rng.integers(0, 9, (120, 150))
    y, _ = _digits.prepare(as_picture(np.clip(noisy, 0, 255).astype(np.uint8)))
    assert np.corrcoef(y.ravel(), digits[0].ravel())[0, 1] > 0.95


@pytest.mark.parametrize("image", [np.zeros((30, 40)), np.full((28, 50), 255), np.full((9, 9), 90)])
def test_nothing_drawn(image):
    with pytest.raises(_digits.NoInk, match="nothing is drawn in it"):
        _digits.prepare(as_picture(image.astype(np.uint8)))


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (2, 500)])
def test_thin_pictures_work_or_have_no_ink(shape, rng):
    image = as_picture(rng.integers(0, 256, shape).astype(np.uint8))
    try:
        y, _ = _digits.prepare(image)
    except (_digits.NoInk, doubts.NoDigit):
        return
    assert y.shape == (28, 28)
    assert np.isfinite(y).all()


def write(path, image):
    as_picture(image).save(path)
    return str(path)


def test_the_command_tells_digits(model_path, digits, tmp_path, capsys):
    labels = datasets.load_mnist().test.labels
    names = [write(tmp_path / f"{i}.png", digits[i]) for i in range(20)]
    assert predict.main([str(model_path), *names]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 40
    told = [int(line.removeprefix(f"{name}: ")[0]) for line, name in zip(lines[::2], names)]  # noqa: B905
    assert np.mean(np.array(told) == labels[:20]) >= 0.8
    assert set(lines[1::2]) == {"    taken as it is"}


def test_folders_top_and_json(model_path, digits, tmp_path, capsys):
    folder = tmp_path / "digits"
    folder.mkdir()
    for name in ("b.png", "a.PNG", "c.bmp"):
        write(folder / name, digits[0])
    (folder / "notes.txt").write_text("no picture")
    assert predict.main([str(model_path), str(folder), "--json", "--top", "3"]) == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [os.path.basename(t["file"]) for t in told] == ["a.PNG", "b.png", "c.bmp"]
    for t in told:
        assert set(t) == {"file", "class", "name", "top", "sure", "doubt", "steps"}
        shares = [c["probability"] for c in t["top"]]
        assert len(shares) == 3
        assert shares == sorted(shares, reverse=True)
        assert t["class"] == t["top"][0]["class"] == 7
    assert predict.main([str(model_path), str(folder / "b.png"), "--top", "99"]) == 0
    assert capsys.readouterr().out.count("%") == 10


def test_what_does_not_end_is_not_read(model_path, capsys, monkeypatch):
    """A device, and a stdin of too many bytes: here of more than ten."""
    monkeypatch.setattr(predict, "MOST", 10)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"0" * 11)))
    assert predict.main([str(model_path), "/dev/zero", "-"]) == 1
    assert capsys.readouterr().err.splitlines() == [
        "pycnn.predict: /dev/zero: this is no regular file; expected a picture.",
        "pycnn.predict: -: stdin gave more than 10 bytes; expected a picture.",
    ]


def test_stdin(model_path, digits, capsys, monkeypatch):
    buffer = io.BytesIO()
    as_picture(digits[0]).save(buffer, "PNG")
    buffer.seek(0)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(buffer))
    assert predict.main([str(model_path), "-"]) == 0
    assert capsys.readouterr().out.startswith("-: 7 (")
    assert predict.main([str(model_path), "-", "-"]) == 2
    assert "- stands for stdin, once" in capsys.readouterr().err


def test_a_picture_that_cannot_be_read_does_not_stop_the_others(
    model_path, digits, tmp_path, capsys
):
    good = write(tmp_path / "good.png", digits[0])
    (tmp_path / "text.png").write_text("no picture")
    whole = (tmp_path / "good.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    write(tmp_path / "blank.png", np.zeros((50, 50), np.uint8))
    (tmp_path / "empty").mkdir()
    bad = ["gone.png", "text.png", "cut.png", "blank.png", "empty"]
    names = [str(tmp_path / name) for name in bad]
    assert predict.main([str(model_path), *names, good]) == 1
    out, err = capsys.readouterr()
    assert out.startswith(f"{good}: 7")
    lines = err.splitlines()
    for line, name, reason in zip(
        lines,
        names,
        ["cannot read: No such file", "this is no picture", "", "nothing is drawn", "no pictures"],
        strict=True,
    ):
        assert line.startswith(f"pycnn.predict: {name}: {reason}")
        assert line.endswith(".")
    assert predict.main([str(model_path), *names, good, "--json"]) == 1
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [set(t) == {"file", "error"} for t in told] == [True] * 5 + [False]


def test_models_that_do_not_fit(tmp_path, digits, capsys):
    picture = write(tmp_path / "a.png", digits[0])
    path = tmp_path / "m.safetensors"

    def complaint(model, image=None):
        model.input_shape = image
        pycnn.save_model(model, path)
        assert predict.main([str(path), picture]) == 1
        return capsys.readouterr().err

    colour = Sequential(Conv2d(3, 2, 3), Flatten(), Linear(72, 2))
    assert "its input is [8, 8, 3]; expected grey images" in complaint(colour, (8, 8, 3))
    assert "does not take images of 28 x 28 x 1" in complaint(colour)
    assert "its input is [5]; expected grey images" in complaint(Sequential(Linear(5, 2)), (5,))
    assert "its output is (None, 28, 28, 1); expected" in complaint(Sequential(ReLU()))
    diverged = models.mnist_cnn()
    diverged.parameters()[0].data[0] = np.nan
    assert "tensor '0.weight' holds NaN or Inf" in complaint(diverged)
    small = Sequential(Conv2d(1, 2, 3), Flatten(), Linear(72, 2))
    small.input_shape = (8, 8, 1)
    pycnn.save_model(small, path)
    assert predict.main([str(path), write(tmp_path / "b.png", framed(digits[0]))]) == 0
    assert "centred by mass in 8 x 8" in capsys.readouterr().out
    assert predict.main([str(tmp_path / "gone"), picture]) == 1
    assert "gone: cannot read: No such file" in capsys.readouterr().err
    assert predict.main([picture, picture]) == 1
    assert "expected a whole safetensors file" in capsys.readouterr().err


def test_usage(capsys):
    for arguments in ([], ["m"], ["m", "a", "--top", "0"], ["m", "a", "--nothing"]):
        with pytest.raises(SystemExit) as ended:
            predict.main(arguments)
        assert ended.value.code == 2
        assert capsys.readouterr().err.startswith("python -m pycnn.predict: ")
    with pytest.raises(SystemExit) as ended:
        predict.main(["--help"])
    assert ended.value.code == 0


def test_a_missing_library_gives_the_line_to_type(model_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "PIL", None)
    monkeypatch.delitem(sys.modules, "PIL.Image")
    assert predict.main([str(model_path), "a.png"]) == 1
    expected = "needs Pillow, which is not installed: pip install 'pycnn[images]'."
    assert capsys.readouterr().err == f"pycnn.predict: reading pictures {expected}\n"
    with pytest.raises(ImportError, match=r"^reading pictures needs Pillow, which is not "):
        predict.look(models.mnist_cnn(), (28, 28), "a.png", 1)


def test_as_a_process(model_path, digits, tmp_path):
    picture = write(tmp_path / "a.png", digits[0])
    command = [sys.executable, "-m", "pycnn.predict", model_path, picture]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.startswith(f"{picture}: 7 (")
    closed = subprocess.run(
        ["bash", "-c", '"$@" >/dev/full', "bash", *map(str, command)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert closed.returncode == 1
    assert "cannot write its lines: No space left" in closed.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_command(model_path, digits, tmp_path, number, code):
    """While it waits for a picture on stdin; the line before tells that it has begun."""
    picture = write(tmp_path / "a.png", digits[0])
    command = [sys.executable, "-m", "pycnn.predict", model_path, picture, "-"]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # as in a terminal
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    finally:
        signal.signal(signal.SIGINT, before)
    assert process.stdout.readline().startswith(f"{picture}: 7 (")
    assert process.stdout.readline() == "    taken as it is\n"
    process.send_signal(number)
    out, err = process.communicate()
    assert (out, err) == ("", f"pycnn.predict: stopped by {number.name}.\n")
    assert process.returncode == code

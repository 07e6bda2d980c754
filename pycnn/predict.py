"""`python -m pycnn.predict model.safetensors digit.png ...`: what a saved model sees in pictures.

Pictures are made like MNIST's images first (`digits.py`), and normalized as the model was trained.
"""

from __future__ import annotations

import argparse
import io
import json
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from pycnn import ops
from pycnn._commands.options import DONE, FAILED, USAGE, _Parser, _whole_number
from pycnn._commands.progress import CannotWrite, abandon_stdout, complain, writing
from pycnn._commands.signals import Stopped, stoppable
from pycnn._formats.files import FileError, check_finite, read_small
from pycnn._images import digits
from pycnn._images.doubts import NoDigit
from pycnn._runtime.extras import need
from pycnn.datasets.folder import PICTURES
from pycnn.layers import Module
from pycnn.modelfile import load_model
from pycnn.ops.arrays import Array

STDIN = "-"
READING = "reading pictures"
MOST = 100_000_000  # bytes of a picture
# Of MNIST's 10,000 test digits the recipe fast's network (99.13 %) gives 212 a lower probability,
# and 64 of these are among its 87 mistakes; below 0.5 are 108 and 46, below 0.7 378 and 78.
SURE = 0.6


def make_parser() -> argparse.ArgumentParser:
    """The parser of the command's options; it ends the process after --help and usage errors."""
    parser = _Parser(
        prog="python -m pycnn.predict",
        description="Tell the digits in pictures with a model that save_model or --save-model "
        "wrote. Each picture is turned to grey, inverted if its background is bright, evened if it "
        "is lit unevenly, freed from specks and lines along its border, cropped to the ink, scaled "
        "to fit 20 x 20 pixels and centred by mass in 28 x 28, as MNIST was made; a grey one of "
        "the model's size on black is taken as it is. A picture that is blank, that shows noise "
        "or a texture instead of strokes, or several digits, is refused.",
        epilog="Exit codes: 0 done, 1 failed (at least one picture; the others are still told), "
        "2 usage, 130 interrupted (SIGINT), 143 ended (SIGTERM).",
        allow_abbrev=False,
    )
    parser.add_argument("model", metavar="MODEL", help="a .safetensors file of a model")
    meaning = "pictures, folders of pictures (in the order of their names), or - for stdin"
    parser.add_argument("pictures", nargs="+", metavar="PICTURE", help=meaning)
    meaning = "tell the N most probable classes (default: 1)"
    kind = _whole_number(1, "a number of classes")
    parser.add_argument("--top", type=kind, default=1, metavar="N", help=meaning)
    meaning = "tell a class for pictures that are refused, too"
    parser.add_argument("--force", action="store_true", help=meaning)
    meaning = "print a JSON object a picture, with a line for each, and nothing else"
    parser.add_argument("--json", action="store_true", help=meaning)
    return parser


def model_size(model: Module) -> tuple[int, int]:
    """(H, W) of the grey images that a model takes; ValueError for other models.

    28 x 28 if the model does not know, and takes that.
    """
    image = model.input_shape or (28, 28, 1)
    if len(image) != 3 or image[2] != 1:
        raise ValueError(
            f"its input is {list(image)}; expected grey images [H, W, 1], for example [28, 28, 1]."
        )
    try:
        y = model.output_shape((None, *image))
    except ValueError as error:
        raise ValueError(
            f"it does not take images of 28 x 28 x 1, and does not know of what size ({error}) "
            "Set model.input_shape = (H, W, 1) and save it again."
        ) from error
    if len(y) != 2:
        raise ValueError(f"its output is {y}; expected [N, classes].")
    return image[0], image[1]


def probabilities(model: Module, image: Array) -> Array:
    """float32 [K] for an image [H, W] in 0 .. 1; the model is in eval mode."""
    dtype = next((p.data.dtype for p in model.parameters()), np.dtype(np.float32))
    x = model.normalization(image[None, :, :, None]).astype(dtype)
    return np.asarray(ops.softmax(model(x))[0])


def found(names: Sequence[str]) -> Iterator[tuple[str, str | None]]:
    """Each picture's name, with the pictures of folders; or a folder's name and its fault."""
    for name in names:
        path = Path(name)
        if name == STDIN or not path.is_dir():
            yield name, None
            continue
        try:
            inside = sorted(p for p in path.iterdir() if p.suffix.lower() in PICTURES)
        except OSError as error:
            yield name, f"cannot read the folder: {error.strerror}."
            continue
        if not inside:
            yield name, f"no pictures in this folder; expected {', '.join(sorted(PICTURES))}."
        yield from ((str(p), None) for p in inside)


def _content(stream: BinaryIO) -> bytes:
    """All that comes, unless it does not end."""
    content = stream.read(MOST + 1)
    if len(content) > MOST:
        raise ValueError(f"stdin gave more than {MOST:,} bytes; expected a picture.")
    return content


def _tells_digits(model: Module) -> bool:
    """Whether the classes may be digits: they are named so, or have no names."""
    return model.class_names is None or all(name.isdigit() for name in model.class_names)


def look(
    model: Module, size: tuple[int, int], name: str, top: int, force: bool = False
) -> dict[str, Any]:
    """What the command says of a picture; OSError or ValueError if it cannot be read.

    A picture that is not one digit is a ValueError as well; with `force` its reason is "doubt".
    """
    Image = need("PIL.Image", "images", READING)
    content = _content(sys.stdin.buffer) if name == STDIN else read_small(name, "a picture", MOST)
    with Image.open(io.BytesIO(content)) as picture:
        picture.load()
        doubtful: list[str] | None = [] if force else None
        try:
            image, steps = digits.prepare(
                picture, size, doubtful=doubtful, digit=_tells_digits(model)
            )
        except (digits.NoInk, NoDigit) as error:
            raise ValueError(f"{error}; write --force to be told a class all the same") from error
    p = probabilities(model, image)
    if not np.isfinite(p).all():
        raise ValueError("the model's probabilities are NaN.")
    best = np.argsort(-p, kind="stable")[:top]
    names = model.class_names or tuple(map(str, range(len(p))))
    classes = [
        {"class": int(k), "name": names[k], "probability": round(float(p[k]), 6)} for k in best
    ]
    return {
        "file": name,
        "class": int(best[0]),
        "name": names[best[0]],
        "top": classes,
        "sure": bool(p[best[0]] >= SURE),
        "doubt": doubtful[0] if doubtful else None,
        "steps": steps,
    }


def _say(told: dict[str, Any], as_json: bool) -> None:
    if as_json:
        lines = json.dumps(told)
    else:
        classes = ", ".join(f"{c['name']} ({100 * c['probability']:.1f} %)" for c in told["top"])
        hint = "" if told["sure"] else f"; not sure: below {100 * SURE:.0f} %, look yourself"
        forced = f"    forced, but {told['doubt']}\n" if told["doubt"] else ""
        lines = f"{told['file']}: {classes}{hint}\n{forced}    {'; '.join(told['steps'])}"
    with writing():
        print(lines, flush=True)


def _fault(name: str, error: Exception | str) -> str:
    kind = type(error).__name__
    if kind == "UnidentifiedImageError":
        return "this is no picture in a format that Pillow knows."
    if kind in ("DecompressionBombError", "DecompressionBombWarning"):
        return "it has too many pixels."
    if isinstance(error, FileError):
        return str(error).removeprefix(f"{name}: ")
    reason = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
    return (
        f"{reason.rstrip('.')}."
        if isinstance(error, str | ValueError)
        else (f"cannot read: {reason.rstrip('.')}.")
    )


def _run(options: argparse.Namespace) -> int:
    need("PIL", "images", READING)
    model = load_model(options.model)
    check_finite(options.model, model.state_dict())
    try:
        size = model_size(model)
    except ValueError as error:
        raise FileError(f"{options.model}: {error}") from error
    code = DONE
    for name, fault in found(options.pictures):
        try:
            if fault is not None:
                raise ValueError(fault)
            told = look(model, size, name, options.top, options.force)
        except CannotWrite:
            raise
        except Exception as error:  # a decoder's; what files hold is not ours
            fault, code = _fault(name, error), FAILED
            if options.json:
                with writing():
                    print(json.dumps({"file": name, "error": fault}), flush=True)
            complain(f"pycnn.predict: {name}: {fault}")
            continue
        _say(told, options.json)
    return code


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code; argv has no program name, by default sys.argv's.

    Raises SystemExit, as argparse does, for --help (0) and for a usage error (2).
    """
    with stoppable():
        try:
            options = make_parser().parse_args(argv)
            if options.pictures.count(STDIN) > 1:
                complain("python -m pycnn.predict: - stands for stdin, once (see --help).")
                return USAGE
            return _run(options)
        except Stopped as stop:
            complain(f"pycnn.predict: stopped by {signal.Signals(stop.number).name}.")
            return 128 + stop.number
        except CannotWrite as error:
            abandon_stdout("pycnn.predict", error)
            return FAILED
        except (FileError, ImportError) as error:
            complain(f"pycnn.predict: {error}")
            return FAILED


if __name__ == "__main__":
    sys.exit(main())

"""`python -m pycnn.onnx model.onnx`: what is in an ONNX file, and how pycnn runs it."""

from __future__ import annotations

import argparse
import importlib
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import pycnn
from pycnn._commands.options import DONE, FAILED, _Parser, _whole_number
from pycnn._commands.progress import CannotWrite, abandon_stdout, complain, writing
from pycnn._formats.files import FileError
from pycnn.graph.program import columns
from pycnn.layers import Graph
from pycnn.onnx._import import import_onnx
from pycnn.onnx.nodes import FREE

SECONDS = 2.0  # of timing


def make_parser() -> argparse.ArgumentParser:
    """The parser of the command's options; it ends the process after --help and usage errors."""
    parser = _Parser(
        prog="python -m pycnn.onnx",
        description="Print what is in an ONNX file: its program in pycnn's layers, the work and "
        "the memory of an image, and the plan of compile_inference; or all nodes that pycnn cannot "
        "read.",
        epilog="Exit codes: 0 done, 1 failed (the file cannot be read, or not all of its nodes), "
        "2 usage.",
        allow_abbrev=False,
    )
    parser.add_argument("model", metavar="MODEL", help="an .onnx file")
    meaning = "images at once, of the plan and of --time (default: 1)"
    kind = _whole_number(1, "a number of images")
    parser.add_argument("--batch", type=kind, default=1, metavar="N", help=meaning)
    meaning = "the extents of an image (H W C), where the file leaves them free"
    size = _whole_number(1, "an extent")
    parser.add_argument("--shape", type=size, nargs="+", metavar="EXTENT", help=meaning)
    meaning = "time it, beside ONNX Runtime if that is installed"
    parser.add_argument("--time", action="store_true", help=meaning)
    return parser


def shapes_of(model: Graph, N: int, given: Sequence[int] | None) -> list[tuple[int, ...]]:
    """The shapes of the model's inputs."""
    if given is not None:
        return [(N, *given)]
    if model.input_shape is not None:
        return [(N, *model.input_shape)]
    return [(N, *shape[1:]) for shape in model.last_input_shapes or ()]


def describe(model: Graph, shapes: Sequence[tuple[int, ...]]) -> str:
    """The program, the work, the memory and the plan."""
    N = shapes[0][0]
    program = model.program(*shapes)
    compiled = model.compile_inference(*shapes)
    numbers = sum(p.data.size for p in model.parameters())
    flop = sum(node.operation.flop_per_image(node.inputs[0].full_shape) for node in program.nodes)
    facts = [
        ("parameters", f"{numbers:,}, {numbers * 4 / 1e6:,.1f} MB"),
        ("work", f"{flop / 1e6:,.1f} MFLOP an image"),
        ("memory", f"{compiled.bytes_per_image / 1e6:,.1f} MB an image, beyond the parameters"),
    ]
    plan = model.plan(*shapes)
    return f"{program}\n\n{columns(facts)}\n\nplan for {N} image{'s' if N > 1 else ''}:\n{plan}"


def timed(run: Callable[[], Any]) -> tuple[float, float]:
    """(minimum, median) in milliseconds."""
    run()
    times: list[float] = []
    end = time.perf_counter() + SECONDS
    while time.perf_counter() < end or len(times) < 3:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return 1e3 * min(times), 1e3 * float(np.median(times))


def times(model: Graph, path: str, shapes: Sequence[tuple[int, ...]]) -> str:
    """A line for pycnn, and one for ONNX Runtime."""
    rng = np.random.default_rng(0)
    xs = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
    compiled = model.compile_inference(*shapes)
    rows = [("", "minimum", "median"), ("pycnn", *_ms(timed(lambda: compiled(*xs))))]
    try:
        onnxruntime = importlib.import_module("onnxruntime")
    except ImportError:
        return f"{columns(rows)}\nONNX Runtime is not installed: pip install onnxruntime."
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = pycnn.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    feed = {}
    for value, x in zip(session.get_inputs(), xs, strict=True):
        fits = [isinstance(n, str) or n == m for n, m in zip(value.shape, x.shape, strict=True)]
        turned = x if all(fits) or x.ndim != 4 else x.transpose(0, 3, 1, 2)
        feed[value.name] = np.ascontiguousarray(turned)
    try:
        rows.append((f"ONNX Runtime {onnxruntime.__version__}",
                     *_ms(timed(lambda: session.run(None, feed)))))  # fmt: skip
    except Exception as error:  # of a batch that the file does not take, for example
        return f"{columns(rows)}\nONNX Runtime: {str(error).strip()}"
    return columns(rows)


def _ms(pair: tuple[float, float]) -> tuple[str, str]:
    return f"{pair[0]:.3f} ms", f"{pair[1]:.3f} ms"


def _run(options: argparse.Namespace) -> int:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        model = import_onnx(options.model)
    for warning in said:
        complain(f"pycnn.onnx: {warning.message}")
    shapes = shapes_of(model, options.batch, options.shape)
    if any(FREE in shape for shape in shapes) and model.input_shape is None and not options.shape:
        complain(f"pycnn.onnx: the file leaves extents free; {FREE} stands for them. See --shape.")
    with writing():
        print(describe(model, shapes), flush=True)
        if options.time:
            threads = pycnn.get_num_threads()
            print(f"\ntime for {options.batch}, {threads} threads:", flush=True)
            print(times(model, options.model, shapes), flush=True)
    return DONE


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code; argv has no program name, by default sys.argv's.

    Raises SystemExit, as argparse does, for --help (0) and for a usage error (2).
    """
    options = make_parser().parse_args(argv)
    try:
        return _run(options)
    except CannotWrite as error:
        abandon_stdout("pycnn.onnx", error)
    except (FileError, ImportError, TypeError, ValueError) as error:
        complain(f"pycnn.onnx: {error}")
    return FAILED


if __name__ == "__main__":
    sys.exit(main())

"""Each kernel of the lecture's network alone: one thread, every ISA, as a share of the FMA peak."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

import pycnn
from pycnn import ops

from . import machine
from .peers.network import CHANNELS, DENSE, SIZES, parameter_shapes
from .timing import Case, duration, interleave, table


def run(*, batch: int, repeats: int) -> dict[str, Any]:
    """Measure, print a table an ISA, return what goes to the JSON file."""
    chosen = pycnn.isa()
    isas = list(pycnn.available_isas())
    cases = {isa: list(_cases(batch, isa)) for isa in isas}
    peaks: dict[str, list[float]] = {isa: [] for isa in isas}

    def measure_peaks() -> None:
        for isa in isas:
            pycnn.use_isa(isa)
            peaks[isa].append(machine.fma_peak(1, seconds=0.03, repeats=2))

    try:
        with pycnn.num_threads(1):
            # Kernel by kernel, so that the ISAs of one kernel are timed next to each other.
            in_turn = [case for same in zip(*cases.values(), strict=True) for case in same]
            interleave(in_turn, repeats, before_round=measure_peaks)
    finally:
        pycnn.use_isa(chosen)
    report: dict[str, Any] = {"batch": batch, "threads": 1, "isas": {}}
    for isa in isas:
        best, middle = max(peaks[isa]), statistics.median(peaks[isa])
        rows = [_as_json(case, best, middle) for case in cases[isa]]
        report["isas"][isa] = {"peak_gflops": best, "peak_gflops_median": middle, "kernels": rows}
        print(f"\nKernels, batch {batch}, 1 thread, {isa}: FMA peak {best:.1f} GFLOP/s")
        print(table(HEADERS, [_as_text(row) for row in rows]))
    return report


HEADERS = ("kernel", "min", "median", "GFLOP/s", "% of peak", "median %", "GB/s")


def _cases(batch: int, isa: str) -> Iterator[Case]:
    rng = np.random.default_rng(0)
    select_isa = partial(pycnn.use_isa, isa)
    makers = (_convolution_cases, _pool_cases, _pointwise_cases, _dense_cases, _update_cases)
    for make in makers:
        for case in make(batch, rng):
            case.setup = select_isa
            yield case


def _convolution_cases(N: int, rng: np.random.Generator) -> Iterator[Case]:
    layers = zip(SIZES, CHANNELS[:-1], CHANNELS[1:], strict=True)
    for number, (size, C, OC) in enumerate(layers, start=1):
        x, dy = _normal(rng, N, size, size, C), _normal(rng, N, size, size, OC)
        weight, bias = _normal(rng, 3, 3, C, OC), _normal(rng, OC)
        flop = 2.0 * N * size * size * 3 * 3 * C * OC
        name = f"conv{number} {size}x{size}x{C}->{OC}"
        forward = partial(
            ops.conv2d, x, weight, bias,
            padding="same", activation="relu", out=np.empty_like(dy),
        )  # fmt: skip
        backward_input = partial(
            ops.conv2d_backward_input, dy, weight, x.shape, padding="same", out=np.empty_like(x)
        )
        backward_weight = partial(
            ops.conv2d_backward_weight,
            x,
            dy,
            weight.shape,
            padding="same",
            out=np.empty_like(weight),
        )
        backward_bias = partial(ops.conv2d_backward_bias, dy, out=np.empty_like(bias))
        yield Case(f"{name} forward", forward, flop=flop)
        yield Case(f"{name} backward_input", backward_input, flop=flop)
        yield Case(f"{name} backward_weight", backward_weight, flop=flop)
        yield Case(f"{name} backward_bias", backward_bias, moved_bytes=dy.nbytes)


def _pool_cases(N: int, rng: np.random.Generator) -> Iterator[Case]:
    for number, (size, C) in enumerate(zip(SIZES, CHANNELS[1:], strict=True), start=1):
        x = _normal(rng, N, size, size, C)
        y, indices = ops.max_pool2d(x, 2, padding="same", return_indices=True)
        dy = _normal(rng, *y.shape)
        moved = x.nbytes + y.nbytes + indices.nbytes
        forward = partial(
            ops.max_pool2d, x, 2, padding="same", return_indices=True, out=(y, indices.copy())
        )
        backward = partial(ops.max_pool2d_backward, dy, indices, x.shape, out=np.empty_like(x))
        name = f"max_pool{number} {size}x{size}x{C}"
        yield Case(f"{name} forward", forward, moved_bytes=moved)
        yield Case(f"{name} backward", backward, moved_bytes=moved)


def _pointwise_cases(N: int, rng: np.random.Generator) -> Iterator[Case]:
    x = _normal(rng, N, SIZES[0], SIZES[0], CHANNELS[1])
    y = ops.relu(x)
    name = "relu {}x{}x{}".format(*x.shape[1:])
    yield Case(f"{name} forward", partial(ops.relu, x, out=y), moved_bytes=2 * x.nbytes)
    backward = partial(ops.relu_backward, x, y, out=np.empty_like(x))
    yield Case(f"{name} backward", backward, moved_bytes=3 * x.nbytes)
    logits = _normal(rng, N, DENSE[1])
    labels = rng.integers(0, DENSE[1], N).astype(np.int32)
    yield Case("softmax_cross_entropy", partial(ops.softmax_cross_entropy, logits, labels))


def _dense_cases(N: int, rng: np.random.Generator) -> Iterator[Case]:
    x, weight, dy = _normal(rng, N, DENSE[0]), _normal(rng, *DENSE), _normal(rng, N, DENSE[1])
    flop = 2.0 * N * DENSE[0] * DENSE[1]
    name = "dense {}->{}".format(*DENSE)
    forward = partial(ops.matmul, x, weight, out=np.empty_like(dy))
    backward_input = partial(ops.matmul, dy, weight, transpose_b=True, out=np.empty_like(x))
    backward_weight = partial(ops.matmul, x, dy, transpose_a=True, out=np.empty_like(weight))
    yield Case(f"{name} forward", forward, flop=flop)
    yield Case(f"{name} backward_input", backward_input, flop=flop)
    yield Case(f"{name} backward_weight", backward_weight, flop=flop)


def _update_cases(N: int, rng: np.random.Generator) -> Iterator[Case]:
    size = sum(int(np.prod(shape)) for shape in parameter_shapes())
    param, grad = _normal(rng, size), _normal(rng, size)
    m, v = np.zeros_like(param), np.zeros_like(param)
    update = partial(ops.adam_step, param, grad, m, v, step=1, lr=1e-3)
    # Reads four arrays and writes three.
    yield Case(f"adam_step {size}", update, moved_bytes=7 * param.nbytes)


def _normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape, dtype=np.float32)


def _as_json(case: Case, best_peak: float, median_peak: float) -> dict[str, Any]:
    row: dict[str, Any] = {"name": case.name, "min_s": case.minimum, "median_s": case.median}
    if case.flop:
        row["gflops"] = case.flop / case.minimum / 1e9
        row["share_of_peak"] = row["gflops"] / best_peak
        row["median_share_of_peak"] = case.flop / case.median / 1e9 / median_peak
    if case.moved_bytes:
        row["gbytes_per_s"] = case.moved_bytes / case.minimum / 1e9
    return row


def _as_text(row: dict[str, Any]) -> list[str]:
    return [
        row["name"],
        duration(row["min_s"]),
        duration(row["median_s"]),
        f"{row['gflops']:.1f}" if "gflops" in row else "",
        f"{row['share_of_peak']:.1%}" if "gflops" in row else "",
        f"{row['median_share_of_peak']:.1%}" if "gflops" in row else "",
        f"{row['gbytes_per_s']:.1f}" if "gbytes_per_s" in row else "",
    ]

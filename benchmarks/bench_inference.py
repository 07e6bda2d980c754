"""Forward only: the logits of a batch and of a single image; pycnn beside its peers."""

from __future__ import annotations

from typing import Any

import numpy as np

from .bench_training import ROW_HEADERS, rows_of, training_batches
from .peers import contest, network
from .timing import table

CONTESTANTS = [
    contest.Contestant("pycnn", "peer_pycnn"),
    contest.Contestant("ONNX Runtime", "peer_onnxruntime"),
    contest.Contestant("PyTorch channels_last", "peer_torch", "channels_last"),
    contest.Contestant("PyTorch NCHW", "peer_torch", "nchw"),
    contest.Contestant("TensorFlow", "peer_tensorflow"),
    contest.Contestant("JAX", "peer_jax", "reduce_window"),
]
BATCHES = 10
SINGLE_IMAGE_FACTOR = 50  # so many more calls a block at batch 1


def run(
    *,
    threads: list[int],
    batch: int,
    rounds: int,
    calls: int,
    peers_python: str,
    peak: dict[int, float],
) -> dict[str, Any]:
    """Measure, print a table a batch size and thread count, return what goes to the JSON file."""
    images, labels, source = training_batches(batch)
    report: dict[str, Any] = {"images": source, "rounds": rounds, "contests": [], "notes": []}
    for size in sorted({batch, 1}, reverse=True):
        for count in threads:
            size_calls = calls if size > 1 else calls * SINGLE_IMAGE_FACTOR
            results, notes = contest.hold(
                CONTESTANTS,
                "inference",
                threads=count,
                parameters=network.he_parameters(),
                images=np.ascontiguousarray(images[:BATCHES, :size]),
                labels=labels[:BATCHES, :size],
                rounds=rounds,
                calls=size_calls,
                peers_python=peers_python,
            )
            rows = rows_of(results, network.forward_flop(size), peak.get(count))
            differences = largest_differences(results)
            print(f"\nInference, batch {size}, {count} thread(s), {rounds} x {size_calls} calls")
            headers = (*ROW_HEADERS, "max |difference|")
            cells = [[*row, f"{d:.1e}"] for row, d in zip(rows, differences, strict=True)]
            print(table(headers, cells))
            print(*notes, sep="\n", end="\n" if notes else "")
            report["contests"] += [
                {"batch": size, **r.as_json(), "max_difference": d}
                for r, d in zip(results, differences, strict=True)
            ]
            report["notes"] += notes
    return report


def largest_differences(results: list[contest.Result]) -> list[float]:
    """Of each contestant's logits from the first one's: they compute the same network."""
    logits = [np.array(result.values) for result in results]
    return [float(np.abs(values - logits[0]).max()) for values in logits]

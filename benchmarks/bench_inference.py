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
    batches: list[int],
    rounds: int,
    calls: int,
    peers_python: str,
    peak: dict[int, float],
) -> dict[str, Any]:
    """Measure, print a table a batch size and thread count, return what goes to the JSON file."""
    images, labels, source = training_batches(max(batches))
    report: dict[str, Any] = {"images": source, "rounds": rounds, "contests": [], "notes": []}
    for size in sorted(set(batches), reverse=True):
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
    report["better_thread_count"] = {}
    for size in sorted(set(batches), reverse=True):
        better = at_better_thread_count([c for c in report["contests"] if c["batch"] == size])
        report["better_thread_count"][size] = better
        if len(threads) > 1 and better:
            title = f"Inference, batch {size}, each at its better of {threads} threads"
            print(f"\n{title} (not interleaved across thread counts): ratio to pycnn")
            rows = [
                [name, *(f"{b['min']:.2f} ({b['min_threads']})",
                         f"{b['median']:.2f} ({b['median_threads']})")]
                for name, b in better.items()
            ]  # fmt: skip
            print(table(("", "of minima (threads)", "of medians (threads)"), rows))
    return report


def at_better_thread_count(contests: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Each contestant's time / pycnn's, by name, both at the thread count that suits them best."""
    best: dict[str, dict[str, tuple[float, int]]] = {}
    for one in contests:
        mine = best.setdefault(one["name"], {})
        for key in ("min", "median"):
            entry = (one[f"{key}_s"], one["threads"])
            mine[key] = min(mine.get(key, entry), entry)
    if "pycnn" not in best:
        return {}
    return {
        name: {
            **{key: mine[key][0] / best["pycnn"][key][0] for key in mine},
            **{f"{key}_threads": mine[key][1] for key in mine},
        }
        for name, mine in best.items()
    }


def largest_differences(results: list[contest.Result]) -> list[float]:
    """Of each contestant's logits from the first one's: they compute the same network."""
    logits = [np.array(result.values) for result in results]
    return [float(np.abs(values - logits[0]).max()) for values in logits]

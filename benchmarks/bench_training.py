"""The training step of the lecture's network (forward, loss, backward, Adam) beside the peers'."""

from __future__ import annotations

from typing import Any

import numpy as np

from .peers import contest, network
from .timing import table

CONTESTANTS = [
    contest.Contestant("pycnn", "peer_pycnn"),
    contest.Contestant("PyTorch channels_last", "peer_torch", "channels_last"),
    contest.Contestant("PyTorch NCHW", "peer_torch", "nchw"),
    contest.Contestant("TensorFlow", "peer_tensorflow"),
    contest.Contestant("JAX reduce_window", "peer_jax", "reduce_window"),
    contest.Contestant("JAX reshape pool", "peer_jax", "reshape"),
]
# Different ones: so many that the network does not learn them by heart in a few rounds.
BATCHES = 100
MOST_IMAGES = 20000  # every contestant holds a copy or two of them


def run(
    *,
    threads: list[int],
    batches: list[int],
    rounds: int,
    calls: int,
    peers_python: str,
    peak: dict[int, float],
) -> dict[str, Any]:
    """Measure, print a table a batch size and thread count, return what goes to the JSON file.

    `peak` is the FMA peak in GFLOP/s by thread count; empty when it is unknown.
    """
    report: dict[str, Any] = {"batches": batches, "rounds": rounds, "contests": [], "notes": []}
    report["flop_per_step"] = {batch: network.step_flop(batch) for batch in batches}
    report["scaling"] = {}
    for batch in batches:
        images, labels, source = training_batches(batch)
        report["images"] = source
        batch_calls = calls_of(batch, calls)
        contests: list[dict[str, Any]] = []
        for count in threads:
            results, notes = contest.hold(
                CONTESTANTS,
                "training",
                threads=count,
                parameters=network.lecture_parameters(),
                images=images,
                labels=labels,
                rounds=rounds,
                calls=batch_calls,
                peers_python=peers_python,
            )
            rows = rows_of(results, network.step_flop(batch), peak.get(count))
            title = f"\nTraining step, batch {batch}, {count} thread(s), {source}"
            print(f"{title}, {rounds} x {batch_calls} steps")
            headers = (*ROW_HEADERS, "loss at step 1", "2", "10", "last")
            lines = [[*row, *_losses(r)] for row, r in zip(rows, results, strict=True)]
            print(table(headers, lines))
            print(*notes, sep="\n", end="\n" if notes else "")
            contests += [{"batch": batch, **r.as_json(), "losses": r.values} for r in results]
            report["notes"] += notes
        report["contests"] += contests
        report["scaling"][batch] = _scaling(contests)
        for name, ratio in report["scaling"][batch].items():
            print(
                f"{name}: 1 thread / {max(threads)} threads = {ratio['min']:.2f} of minima, "
                f"{ratio['median']:.2f} of medians"
            )
    return report


def calls_of(batch: int, calls: int) -> int:
    """Steps in a block: `calls` of batch 100, more of small batches, fewer of large ones."""
    return max(3, min(10 * calls, round(calls * 100 / batch)))


ROW_HEADERS = ("", "version", "min ms", "median ms", "min/pycnn", "median/pycnn", "% of peak")


def rows_of(results: list[contest.Result], flop: float, peak: float | None) -> list[list[str]]:
    """One line a contestant: times, ratios (above 1: pycnn is faster), share of the FMA peak."""
    summaries = [result.as_json() for result in results]
    pycnn = next((s for s in summaries if s["name"] == "pycnn"), None)
    return [
        [
            s["name"],
            s["version"],
            f"{s['min_s'] * 1e3:.3f}",
            f"{s['median_s'] * 1e3:.3f}",
            f"{s['min_s'] / pycnn['min_s']:.2f}" if pycnn else "-",
            f"{s['median_s'] / pycnn['median_s']:.2f}" if pycnn else "-",
            f"{flop / s['min_s'] / peak / 1e7:.0f}" if peak else "-",
        ]
        for s in summaries
    ]


def training_batches(batch: int) -> tuple[np.ndarray, np.ndarray, str]:
    """Images [batches, N, 28, 28, 1] in 0..1, labels [batches, N], and what they are.

    100 batches, fewer if that were more than `MOST_IMAGES`. MNIST, or without pycnn random dots: as
    many zeros, nothing to learn.
    """
    batches = min(BATCHES, max(10, MOST_IMAGES // batch))
    count = batches * batch
    try:
        from pycnn import datasets

        train = datasets.load_mnist().train
        order = np.random.default_rng(0).permutation(len(train.images))
        order = np.resize(order, count)
        images, labels, source = train.images[order] / np.float32(255), train.labels[order], "MNIST"
    except (ImportError, OSError):
        rng = np.random.default_rng(0)
        images = rng.random((count, 28, 28, 1), np.float32) * (rng.random((count, 28, 28, 1)) < 0.2)
        labels, source = rng.integers(0, 10, count), "synthetic images (no pycnn, so no MNIST)"
    shape = (batches, batch, 28, 28, 1)
    return (
        images.astype(np.float32).reshape(shape),
        labels.astype(np.int32).reshape(shape[:2]),
        source,
    )


def _losses(result: contest.Result) -> list[str]:
    at = (0, 1, min(9, len(result.values) - 1), -1)
    return [f"{result.values[i]:.5f}" for i in at]


def _scaling(contests: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    most = max(c["threads"] for c in contests) if contests else 1
    single = {c["name"]: c for c in contests if c["threads"] == 1}
    return {
        c["name"]: {key: single[c["name"]][f"{key}_s"] / c[f"{key}_s"] for key in ("min", "median")}
        for c in contests
        if c["threads"] == most > 1 and c["name"] in single
    }

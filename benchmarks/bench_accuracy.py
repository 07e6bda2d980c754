"""Accuracy is a distribution: recipes over many seeds, and the seconds that a training takes."""

from __future__ import annotations

import statistics
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pycnn import datasets, recipes

from . import machine, plots
from .peers import contest, network
from .timing import table

PEERS = [
    contest.Contestant("PyTorch channels_last", "peer_torch", "channels_last"),
    contest.Contestant("PyTorch NCHW", "peer_torch", "nchw"),
]
# What a peer's twin of the network and the training can do (peer_torch.recipe); it takes long
# enough, so only this one of the three, and only so many seeds.
PEERS_RECIPE, PEERS_SEEDS = "fast", 5


def run(
    *,
    names: list[str],
    seeds: int,
    threads: int,
    quick: bool,
    peers_python: str,
    plot: Path | None = None,
) -> dict[str, Any]:
    """Measure, print a table a recipe, return what goes to the JSON file."""
    report: dict[str, Any] = {"threads": threads, "seeds": seeds, "recipes": {}}
    with TemporaryDirectory() as folder:
        data = network.save_splits(Path(folder), datasets.load_mnist())
        for name in names:
            settings = recipes.get(name).to_dict()
            if quick:
                settings.update(limit_train=2000, epochs=1)
            found, notes = train_all(name, settings, seeds, threads, data, peers_python)
            report["recipes"][name] = {"settings": settings, "runs": found, "notes": notes}
            print(text(name, threads, found), *notes, sep="\n")
    if plot:
        plots.accuracies(report, plot)
    return report


def train_all(
    name: str, settings: dict[str, Any], seeds: int, threads: int, data: Path, peers_python: str
) -> tuple[dict[str, list[dict[str, Any]]], list[str]]:
    """The runs of each contestant by its name, seed by seed in turn, and who was left out."""
    entrants = [contest.Contestant("pycnn", "peer_pycnn")]
    if name == PEERS_RECIPE:
        entrants += PEERS
    found: dict[str, list[dict[str, Any]]] = {}
    notes: list[str] = []
    with ExitStack() as stack:
        workers: list[tuple[contest.Worker, int]] = []
        for entrant in entrants:
            ours = entrant.module == "peer_pycnn"
            worker = stack.enter_context(
                contest.worker_of(entrant, "recipe", threads, data, peers_python)
            )
            try:
                worker.prepare()
                worker.ask({"settings": {**settings, "limit_train": 1000, "epochs": 1}, "seed": 0})
                workers.append((worker, seeds if ours else min(seeds, PEERS_SEEDS)))
            except contest.WorkerError as error:
                notes.append(f"{entrant.name} is left out: {error}")
        for seed in range(seeds):
            for worker, count in workers:
                if seed < count:
                    machine.busy_share(contest.PAUSE_S)  # the others' threads fall asleep
                    run_ = worker.ask({"settings": settings, "seed": seed})
                    found.setdefault(worker.name, []).append({"seed": seed, **run_})
    return found, notes


def summary(runs: list[dict[str, Any]]) -> dict[str, float]:
    """Mean, standard deviation (n - 1) and worst of the test accuracies in %; seconds."""
    values = [100 * run_["test"] for run_ in runs]
    seconds = [run_["seconds"] for run_ in runs]
    return {
        "mean": statistics.mean(values),
        "std": statistics.stdev(values) if len(values) > 1 else 0.0,
        "worst": min(values),
        "min_s": min(seconds),
        "median_s": statistics.median(seconds),
    }


def text(name: str, threads: int, found: dict[str, list[dict[str, Any]]]) -> str:
    """The accuracies of all seeds, and a line a contestant."""
    lines = [f"\nRecipe {name}, {threads} thread(s): test accuracy in %, seconds of the training"]
    ours = summary(found["pycnn"])
    rows = []
    for who, runs in found.items():
        values = ", ".join(f"{100 * run_['test']:.2f}" for run_ in runs)
        lines.append(f"{who}, seeds 0 to {len(runs) - 1}: {values}")
        mine = summary(runs)
        rows.append(
            [
                who,
                str(len(runs)),
                *(f"{mine[key]:.2f}" for key in ("mean", "std", "worst", "min_s", "median_s")),
                *(f"{mine[key] / ours[key]:.2f}" for key in ("min_s", "median_s")),
            ]
        )
    headers = ("", "seeds", "mean", "std", "worst", "min s", "median s", "min/pycnn", "med/pycnn")
    validations = [100 * run_["validation"] for run_ in found["pycnn"]]
    lines.append(
        f"pycnn on the validation images, which no choice was made by here: mean "
        f"{statistics.mean(validations):.2f} %"
    )
    return "\n".join([*lines, table(headers, rows)])

"""What comes around the kernels: the Trainer's cost over a bare loop, a checkpoint, the import."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

import pycnn
from pycnn import callbacks, checkpoint, datasets, ops, recipes
from pycnn.recipes import Recipe

from .timing import duration, table

STEPS = {"lecture": 100, "fast": 300}  # an epoch of so many; about a second


def bare_epoch(recipe: Recipe, split: datasets.Split) -> float:
    """Seconds of an epoch in a loop as a user writes it, of the same steps as the Trainer's."""
    model = recipe.model()
    optimizer, loss_of = recipe.make_optimizer(model), recipe.make_loss()
    steps = len(split) // recipe.batch_size
    schedule, base = recipe.make_schedule(steps), optimizer.lr
    schedule.bind(steps, steps)
    how = model.normalization
    began = time.perf_counter()
    order = np.random.default_rng([recipe.seed, 1, 0]).permutation(len(split))
    for step in range(steps):
        batch = order[step * recipe.batch_size : (step + 1) * recipe.batch_size]
        x = ops.gather_images(split.images, batch, mean=how.mean, std=how.std)
        _, dlogits = loss_of(model.forward(x), split.labels[batch])
        optimizer.zero_grad()
        model.backward(dlogits, input_gradient=False)
        optimizer.lr = base * schedule(step)
        optimizer.step()
    return time.perf_counter() - began


def trainer_epoch(recipe: Recipe, split: datasets.Split) -> float:
    """Seconds of the same by `Trainer.fit`, with the callbacks of the command."""
    quiet = callbacks.LectureLog(100, lambda line: None)
    trainer = recipe.make_trainer(len(split), [callbacks.NanGuard(), quiet])
    began = time.perf_counter()
    trainer.fit(split, epochs=1, batch_size=recipe.batch_size)
    return time.perf_counter() - began


def loops(name: str, rounds: int) -> dict[str, list[float]]:
    """The seconds of both, in turn; the first round is a warm-up."""
    recipe = recipes.get(name).with_settings({"epochs": 1})
    train = datasets.load_mnist().train
    count = STEPS[name] * recipe.batch_size
    split = datasets.Split(train.images[:count], train.labels[:count])
    ways: list[tuple[str, Callable[[Recipe, datasets.Split], float]]]
    ways = [("bare", bare_epoch), ("trainer", trainer_epoch)]
    found: dict[str, list[float]] = {"bare": [], "trainer": []}
    for round_ in range(rounds + 1):
        for way, epoch in ways if round_ % 2 else ways[::-1]:
            seconds = epoch(recipe, split)
            if round_:
                found[way].append(seconds)
    return found


def checkpoints(repeats: int) -> list[float]:
    """Seconds to write one of the lecture's model and its Adam, to a folder of the system's."""
    recipe, mnist = recipes.get("lecture"), datasets.load_mnist()
    split = datasets.Split(mnist.train.images[:200], mnist.train.labels[:200])
    seconds = []
    with TemporaryDirectory() as folder:
        trainer = recipe.make_trainer(len(split))
        trainer.fit(split, epochs=1, batch_size=recipe.batch_size)
        for _ in range(repeats):
            began = time.perf_counter()
            checkpoint.save(trainer, Path(folder) / "last.safetensors", recipe.to_dict())
            seconds.append(time.perf_counter() - began)
    return seconds


def imports(repeats: int) -> dict[str, list[float]]:
    """Seconds of `import numpy`, and of `import pycnn` with it, each in a process of its own."""
    code = "import time; t = time.perf_counter(); import {}; print(time.perf_counter() - t)"
    found: dict[str, list[float]] = {"numpy": [], "pycnn": []}
    for _ in range(repeats):
        for name, seconds in found.items():
            run_ = [sys.executable, "-c", code.format(name)]
            seconds.append(float(subprocess.run(run_, capture_output=True, check=True).stdout))
    return found


def run(*, threads: int, quick: bool) -> dict[str, Any]:
    """Measure, print, return what goes to the JSON file."""
    repeats = 2 if quick else 10
    with pycnn.num_threads(threads):
        report: dict[str, Any] = {
            "threads": threads,
            "loops": {name: loops(name, repeats) for name in STEPS},
            "checkpoint": checkpoints(2 * repeats),
            "import": imports(repeats),
        }
    print(text(report))
    return report


def text(report: dict[str, Any]) -> str:
    """A line for each figure."""
    rows = []
    for name, found in report["loops"].items():
        low, middle = (
            [pick(found[way]) for way in ("bare", "trainer")] for pick in (min, statistics.median)
        )
        rows.append(
            [
                f"{name}, {STEPS[name]} steps",
                f"{duration(low[0])} / {duration(middle[0])}",
                f"{duration(low[1])} / {duration(middle[1])}",
                f"{low[1] / low[0]:.3f} / {middle[1] / middle[0]:.3f}",
            ]
        )
    headers = ("", "bare loop, min / median", "Trainer", "Trainer / bare loop")
    lines = [f"\nThe Trainer beside a bare loop, {report['threads']} thread(s)"]
    lines.append(table(headers, rows))
    for what, seconds in (
        ("a checkpoint of the lecture's model", report["checkpoint"]),
        ("import pycnn, NumPy's included", report["import"]["pycnn"]),
        ("import numpy", report["import"]["numpy"]),
    ):
        lines.append(f"{what}: {duration(min(seconds))} / {duration(statistics.median(seconds))}")
    return "\n".join(lines)

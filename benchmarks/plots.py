"""Pictures by matplotlib, which is optional: the extra `plot`."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from . import machine
from .shapes import DIRECTIONS


class MissingPlotError(RuntimeError):
    """matplotlib is not installed; the message says what to type."""


def pyplot() -> ModuleType:
    """matplotlib.pyplot without a window, or a MissingPlotError that names the extra."""
    try:
        import matplotlib
    except ImportError as error:
        from pycnn._runtime.extras import missing

        raise MissingPlotError(str(missing("matplotlib", "plot", "drawing pictures"))) from error
    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def save(figure: Any, path: Path) -> None:
    """Write the figure as PNG and forget it."""
    figure.savefig(path, dpi=130, format="png")
    pyplot().close(figure)
    print(f"written: {path}")


def ratios(contests: list[dict[str, Any]], path: Path) -> None:
    """Ratios of minima, a panel a thread count and batch size, a colour a direction."""
    panels = [
        (contest, batch)
        for contest in contests
        for batch in sorted({row["batch"] for row in contest["rows"]})
    ]
    size = (15, 4.5 * len(panels))
    figure, grid = pyplot().subplots(len(panels), 1, figsize=size, squeeze=False)
    for axes, (contest, batch) in zip(grid[:, 0], panels, strict=True):
        rows = [row for row in contest["rows"] if row["batch"] == batch]
        names = list(dict.fromkeys(f"{row['network']} {row['shape']}" for row in rows))
        for direction, marker in zip(DIRECTIONS, "o^s", strict=True):
            mine = [row for row in rows if row["direction"] == direction]
            if not mine:
                continue
            at = [names.index(f"{row['network']} {row['shape']}") for row in mine]
            values = [row["ratio_min"] for row in mine]
            axes.plot(at, values, marker, label=direction.replace("_", " "), markersize=5)
        axes.axhline(1.0, color="black", linewidth=1)
        axes.set_yscale("log", base=2)
        axes.set_xticks(range(len(names)), names, rotation=90, fontsize=7)
        axes.set_ylabel("PyTorch / pycnn (above 1: pycnn is faster)", fontsize=8)
        axes.set_title(
            f"{contest['comparison']}, batch {batch}, {contest['threads']} thread(s), "
            f"{machine.cpu_name()}"
        )
        axes.grid(True, alpha=0.3)
        axes.legend(fontsize=8)
    figure.tight_layout()
    save(figure, path)


def networks(report: dict[str, Any], path: Path) -> None:
    """Ratios of minima, a bar a network; a panel for steps and for each batch size of answers."""
    panels: dict[str, list[dict[str, Any]]] = {}
    for row in report["rows"]:
        if row["ratio_min"]:
            title = "training step" if row["what"] == "step" else f"answer, batch {row['batch']}"
            panels.setdefault(title, []).append(row)
    figure, grid = pyplot().subplots(1, len(panels) or 1, figsize=(4.5 * len(panels), 4))
    for axes, (title, rows) in zip(np.atleast_1d(grid), panels.items(), strict=True):
        axes.bar([row["network"] for row in rows], [row["ratio_min"] for row in rows])
        axes.axhline(1.0, color="black", linewidth=1)
        axes.tick_params(axis="x", rotation=90, labelsize=8)
        axes.set_title(f"{title}, {report['threads']} thread(s)", fontsize=9)
        axes.grid(True, axis="y", alpha=0.3)
    np.atleast_1d(grid)[0].set_ylabel("fastest peer / pycnn (above 1: pycnn is faster)", fontsize=8)
    figure.suptitle(machine.cpu_name(), fontsize=9)
    figure.tight_layout()
    save(figure, path)


def accuracies(report: dict[str, Any], path: Path) -> None:
    """Test accuracy, a dot a seed, a row a recipe and contestant; the bar is the mean."""
    rows = [
        (f"{name}\n{who}", [100 * run["test"] for run in runs])
        for name, entry in report["recipes"].items()
        for who, runs in entry["runs"].items()
    ]
    figure, axes = pyplot().subplots(figsize=(8, 1.2 + 0.7 * len(rows)))
    for at, (_, values) in enumerate(rows):
        # Equal accuracies lie above one another, not on one another.
        heights = [at + 0.12 * values[:i].count(value) for i, value in enumerate(values)]
        axes.plot(values, heights, "o", color="#0072B2", alpha=0.75, markersize=6)
        mean = sum(values) / len(values)
        axes.plot([mean, mean], [at - 0.3, at + 0.3], color="#D55E00", linewidth=2)
        axes.annotate(
            f"mean {mean:.2f}", (mean, at - 0.34), ha="center", fontsize=8, color="#D55E00"
        )
    axes.set_yticks(range(len(rows)), [label for label, _ in rows])
    axes.set_ylim(len(rows) - 0.4, -0.75)
    axes.set_xlabel("accuracy on the 10,000 test images, %; a dot is a seed")
    axes.grid(True, axis="x", alpha=0.3)
    axes.set_title("The same recipe, other seeds")
    figure.tight_layout()
    save(figure, path)

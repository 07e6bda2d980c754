"""Pictures by matplotlib, which is optional: the extra `plot`."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

from . import machine
from .shapes import DIRECTIONS


class MissingPlotError(RuntimeError):
    """matplotlib is not installed; the message says what to type."""


def pyplot() -> ModuleType:
    """matplotlib.pyplot without a window, or a MissingPlotError that names the extra."""
    try:
        import matplotlib
    except ImportError as error:
        raise MissingPlotError(
            f"--plot needs matplotlib ({error}): pip install 'pycnn[plot]', or leave --plot away."
        ) from None
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
            at = [names.index(f"{row['network']} {row['shape']}") for row in mine]
            values = [row["ratio_min"] for row in mine]
            axes.plot(at, values, marker, label=direction.replace("_", " "), markersize=5)
        axes.axhline(1.0, color="black", linewidth=1)
        axes.set_yscale("log", base=2)
        axes.set_xticks(range(len(names)), names, rotation=90, fontsize=7)
        axes.set_ylabel("PyTorch / pycnn (above 1: pycnn is faster)", fontsize=8)
        axes.set_title(f"batch {batch}, {contest['threads']} thread(s), {machine.cpu_name()}")
        axes.grid(True, alpha=0.3)
        axes.legend(fontsize=8)
    figure.tight_layout()
    save(figure, path)

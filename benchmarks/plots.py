"""matplotlib, which is optional: the extra `plot`."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any


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

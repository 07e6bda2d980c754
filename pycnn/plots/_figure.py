"""Figures and files: the only place that knows how matplotlib is loaded."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pycnn._formats.files import FileError, file_path, real_path, replacing
from pycnn._runtime.extras import need

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 100
WIDTH = 8.0  # inches: 800 pixels
FORMATS = (".png", ".svg")
# Of Okabe and Ito's colours, which the colour blind tell apart.
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#555555"
SEQUENTIAL, DIVERGING = "viridis", "PuOr_r"


def new_figure(who: str, height: float, width: float = WIDTH) -> Figure:
    """An empty figure of width x height inches, with a canvas that needs no window."""
    need("matplotlib", "plot", f"plots.{who}")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.06)
    figure = Figure(figsize=(width, height), dpi=DPI, layout=layout)
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure, as PNG or SVG by the ending of `path`: .png or .svg.

    There are no dates or random names in the file: the same calls give the same bytes. Raises
    `pycnn.FileError` for another ending and for a place that cannot be written; a file that was
    there is then unchanged.
    """
    check(path)
    kind = Path(path).suffix.lower()[1:]
    content = _rendered(figure, kind)
    with replacing(path) as file:
        file.write(content)


def png(figure: Figure, dpi: int = DPI) -> bytes:
    """The figure as the bytes of a PNG file."""
    return _rendered(figure, "png", dpi)


def check(path: str | os.PathLike[str], endings: tuple[str, ...] = FORMATS) -> None:
    """Tell before a long training that a picture could not be written after it.

    Raises `pycnn.FileError` for another ending than .png and .svg or a folder that is not there,
    ImportError without matplotlib.
    """
    suffix = file_path(path).suffix
    if suffix.lower() not in endings:
        found = f"the ending is {suffix!r}" if suffix else "there is no ending"
        raise FileError(
            f"{path}: cannot write: {found}; expected {' or '.join(endings)}: write "
            f"{Path(path).name or 'picture'}{endings[0]}."
        )
    folder = real_path(path).parent
    if not folder.is_dir():
        raise FileError(f"{path}: cannot write: there is no folder {folder}; make it first.")
    need("matplotlib", "plot", "drawing pictures")


def _rendered(figure: Figure, kind: str, dpi: int = DPI) -> bytes:
    import matplotlib

    content = io.BytesIO()
    nameless: dict[str, Any] = {"Date": None} if kind == "svg" else {"Software": None}
    with matplotlib.rc_context({"svg.hashsalt": "pycnn"}):  # no dates, no random names
        figure.savefig(content, format=kind, dpi=dpi, metadata=nameless)
    return content.getvalue()


def limits(values: npt.NDArray[Any], symmetric: bool = False) -> tuple[float, float]:
    """The ends of a colour scale: of the finite values; never equal."""
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    if symmetric:
        high = max(abs(low), abs(high))
        low = -high
    return (low, high) if low < high else (low - 0.5, low + 0.5)


def bare(axes: Axes) -> None:
    """Only what is drawn: no frame, no ticks."""
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def whole_ticks(axis: Any) -> None:
    """Ticks of an axis at whole numbers only."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator("auto", integer=True))


def sentence(axes: Axes, text: str) -> None:
    """A text where there is nothing to draw."""
    bare(axes)
    axes.text(0.5, 0.5, text, ha="center", va="center", color=GREY, transform=axes.transAxes)

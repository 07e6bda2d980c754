"""The picture of a training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pycnn.plots._figure import BLUE, GREY, ORANGE, new_figure, sentence, whole_ticks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from pycnn.callbacks import LearningRateLog
    from pycnn.trainer import History

FEW_EPOCHS = 2  # points that are no curve


def learning_curves(history: History, learning_rates: LearningRateLog | None = None) -> Figure:
    """Loss, accuracy (or the first metric that was measured) and learning rate over the epochs.

    history: what `Trainer.fit` returned, or `trainer.history`. learning_rates: the callback of that
    training, for the rate of every step; by default the rate at the end of each epoch is shown. Of
    one or two epochs, which are no curve, the loss of every step is shown with it.

    The training curves are means over an epoch's batches while the weights changed, with
    augmentation and dropout; validation is measured at the end of the epoch. So training may look
    worse than validation. Raises ImportError without matplotlib.
    """
    figure = new_figure("learning_curves", 3.2)
    if not history.rows:
        sentence(figure.subplots(), "No epoch was finished.")
        return figure
    panels = figure.subplots(1, 3)
    epochs = [row["epoch"] + 1 for row in history.rows]
    if len(epochs) <= FEW_EPOCHS and learning_rates is not None and learning_rates.steps:
        at = _at(learning_rates, history)
        panels[0].plot(at, learning_rates.losses, color=BLUE, alpha=0.4, lw=0.8, label="each step")
    metric = _metric(history)
    drawn = [(panels[0], "loss", 1, "loss")]
    if metric is None:
        sentence(panels[1], "No metric was measured.")
    elif metric.endswith("accuracy"):
        drawn.append((panels[1], metric, 100, f"{metric} / %"))
    else:
        drawn.append((panels[1], metric, 1, metric))
    for axes, column, factor, label in drawn:
        for name, colour, marker, legend in (
            (column, BLUE, "o", "training"),
            (f"val_{column}", ORANGE, "s", "validation"),
        ):
            if name in history.rows[-1]:
                values = [factor * row.get(name, float("nan")) for row in history.rows]
                axes.plot(epochs, values, color=colour, marker=marker, markersize=4, label=legend)
        axes.set_title(_last(history, column, factor), fontsize=10)
        axes.set_ylabel(label)
        axes.legend()
    panels[0].set_ylim(bottom=0)
    _draw_rates(panels[2], history, epochs, learning_rates)
    for axes in (*(axes for axes, *_ in drawn), panels[2]):
        axes.set_xlabel("epoch")
        axes.set_xlim(0, 1.05 * epochs[-1])
        whole_ticks(axes.xaxis)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _metric(history: History) -> str | None:
    """The column of the second picture."""
    names = [n for n in history.rows[-1] if n not in ("epoch", "step", "lr", "loss")]
    names = [name for name in names if not name.startswith("val_")]
    return "accuracy" if "accuracy" in names else next(iter(names), None)


def _last(history: History, column: str, factor: int) -> str:
    """The title: the last value, of validation if there is one."""
    row = history.rows[-1]
    name = f"val_{column}" if f"val_{column}" in row else column
    kind = "validation" if name != column else "training"
    value = f"{row[name]:.4f}" if factor == 1 else f"{100 * row[name]:.2f} %"
    return f"{kind} {column}: {value}"


def _at(rates: LearningRateLog, history: History) -> list[float]:
    """The end of each step, in epochs."""
    row = history.rows[-1]
    per_epoch = row["step"] / (row["epoch"] + 1)
    return [(step + 1) / per_epoch for step in rates.steps]


def _draw_rates(
    axes: Axes, history: History, epochs: list[float], rates: LearningRateLog | None
) -> None:
    if rates is not None and rates.steps:
        axes.plot(_at(rates, history), rates.values, color=GREY)
        axes.set_title("rate of each step", fontsize=10)
    else:
        axes.plot(epochs, history["lr"], color=GREY, marker="o", markersize=4)
        axes.set_title("rate at each epoch's end", fontsize=10)
    axes.set_ylabel("learning rate")
    axes.set_ylim(bottom=0)

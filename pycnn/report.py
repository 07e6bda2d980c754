"""A training as one HTML file with all pictures, which opens without a network; extra `plot`."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

import pycnn
from pycnn import plots
from pycnn._commands.progress import counted
from pycnn._formats.files import replacing
from pycnn.callbacks import Checkpoint, LearningRateLog
from pycnn.layers import Conv2d
from pycnn.trainer.loss import says

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from pycnn.trainer import Trainer
    from pycnn.trainer.data import Data

ENDINGS = (".html", ".htm")
DPI = 150  # sharp on screens of many pixels
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; max-width: 840px; margin: 2em auto;
       padding: 0 1em; }
table { border-collapse: collapse; font-size: 14px; font-variant-numeric: tabular-nums; }
th, td { border-bottom: 1px solid #ddd; padding: 0.2em 0.9em 0.2em 0; text-align: left; }
.numbers th, .numbers td { text-align: right; }
img { max-width: 100%; height: auto; }
pre { background: #f5f5f5; padding: 0.8em; overflow-x: auto; font-size: 13px; }
figure { margin: 0 0 2em; }
figcaption, .small { color: #555; font-size: 14px; }
"""
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<h1>{title}</h1>
{body}
</body>
</html>
"""


def write(
    path: str | os.PathLike[str],
    trainer: Trainer,
    test: Data,
    recipe: Mapping[str, Any] | None = None,
) -> None:
    """Write the report of a trained model: settings, results of each epoch, all pictures.

    path: ends in .html. trainer: after its `fit`. test: a split or (images, labels); the model is
    evaluated on it, its mistakes are shown, and its first image goes through the layers. recipe:
    the settings by name, as `Recipe.to_dict()` gives them; by default those that a
    `callbacks.Checkpoint` of the trainer was given, else those of the trainer's parts. The file
    holds all of its pictures and loads nothing.

    Raises `pycnn.FileError` for another ending or a place that cannot be written, ImportError
    without matplotlib.
    """
    check(path)
    images, labels = _arrays(test)
    if not says(trainer.loss_function).classes or labels.ndim != 1:
        raise ValueError(
            f"report.write: the loss is {_described(trainer.loss_function)} and labels have shape "
            f"{labels.shape}; expected a classifier of images, whose classes the report shows."
        )
    body = [*_results(trainer, images, labels), *_settings(trainer, recipe)]
    body += [_figure(*picture) for picture in _pictures(trainer, images, labels)]
    text = PAGE.format(title="A training with pycnn", style=STYLE, body="\n".join(body))
    with replacing(path) as file:
        file.write(text.encode())


def check(path: str | os.PathLike[str]) -> None:
    """Tell before a long training that the report could not be written after it.

    Raises what `plots.check` raises; the ending must be .html or .htm.
    """
    plots.check(path, ENDINGS)


def _arrays(data: Data) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    if isinstance(data, (tuple, list)):
        return data[0], np.asarray(data[1])
    return data.images, data.labels


def _results(trainer: Trainer, images: npt.NDArray[Any], labels: npt.NDArray[Any]) -> Iterator[str]:
    if len(images):
        found = trainer.evaluate((images, labels))
        epochs, steps = counted(trainer.epoch, "epoch"), counted(trainer.steps_per_epoch, "step")
        name = "accuracy" if "accuracy" in found else list(found)[-1]
        yield (
            f"<p><strong>{name.capitalize()} {_cell(name, found[name])}</strong> and loss "
            f"{found['loss']:.4f} on {counted(len(images), 'test image')}, after {epochs} of "
            f"{steps} with {counted(trainer.batch_size, 'image')} each.</p>"
        )
    if trainer.stop_reason:
        yield f"<p>The training was stopped: {escape(trainer.stop_reason)}.</p>"
    yield (
        f'<p class="small">pycnn {escape(pycnn.__version__)}, {escape(pycnn.isa())}, '
        f"{counted(pycnn.get_num_threads(), 'thread')}, "
        f"{trainer.training_seconds:.2f} s of training in this process.</p>"
    )
    yield "<h2>Each epoch</h2>"
    yield _epochs(trainer)


def _epochs(trainer: Trainer) -> str:
    rows = trainer.history.rows
    if not rows:
        return "<p>No epoch was finished.</p>"
    columns = list(rows[-1])
    seconds = trainer.history.seconds
    missing = [""] * (len(rows) - len(seconds))  # epochs before a checkpoint
    times = [*missing, *(f"{value:.2f}" for value in seconds)]
    lines = [[_cell(name, row.get(name)) for name in columns] for row in rows]
    both = [[*line, time] for line, time in zip(lines, times, strict=True)]
    return _table([*columns, "seconds"], both, "numbers") + _times(trainer)


def _times(trainer: Trainer) -> str:
    """What rank 0 did in a step of this fit, where batches were cut into slots."""
    ranks, steps = trainer.ranks, trainer.steps_of_fit
    if ranks.slots == 1 or not steps:
        return ""
    parts = [f"{name} {1e3 * value / steps:.2f} ms" for name, value in ranks.seconds.items()]
    return f"<p>{ranks.slots} slots a batch; a step of rank 0: {', '.join(parts)}.</p>"


def _cell(name: str, value: float | None) -> str:
    if value is None:
        return ""
    if name == "epoch":
        return f"{value + 1:.0f}"  # as the pictures count
    if name.endswith("accuracy"):
        return f"{100 * value:.2f} %"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _settings(trainer: Trainer, recipe: Mapping[str, Any] | None) -> Iterator[str]:
    yield "<h2>Settings</h2>"
    recipes = [c.recipe for c in trainer.callbacks if isinstance(c, Checkpoint) and c.recipe]
    values = recipe or (recipes[0] if recipes else _parts(trainer))
    yield _table(["setting", "value"], [[str(k), _plain(v)] for k, v in values.items()])
    yield "<h2>The network</h2>"
    yield f"<pre>{escape(repr(trainer.model))}</pre>"


def _plain(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _parts(trainer: Trainer) -> Mapping[str, str]:
    """What the trainer was made of, where no recipe tells."""
    return {
        "epochs": str(trainer.epochs),
        "batch_size": str(trainer.batch_size),
        "optimizer": _described(trainer.optimizer, lr=trainer.base_lr),
        "schedule": _described(trainer.schedule),
        "loss": _described(trainer.loss_function),
        "augmentation": str(trainer.augmentation),
        "plain_epochs": str(trainer.plain_epochs),
        "clip_norm": str(trainer.clip_norm),
        "normalization": str(trainer.model.normalization),
        "seed": str(trainer.seed),
    }


def _described(part: object, **known: object) -> str:
    """The kind and the simple attributes of an object."""
    simple = (bool, int, float, str, tuple)
    found = {
        name: value
        for name, value in getattr(part, "__dict__", {}).items()
        if not name.startswith("_") and isinstance(value, simple)
    }
    text = ", ".join(f"{name}={value!r}" for name, value in {**found, **known}.items())
    return f"{type(part).__name__}({text})"


def _table(head: Iterable[str], rows: Iterable[Iterable[str]], kind: str = "") -> str:
    def line(cells: Iterable[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(c)}</{tag}>" for c in cells) + "</tr>"

    body = "\n".join(line(row, "td") for row in rows)
    return f'<table class="{kind}">\n{line(head, "th")}\n{body}\n</table>'


def _pictures(
    trainer: Trainer, images: npt.NDArray[Any], labels: npt.NDArray[Any]
) -> Iterator[tuple[str, str, Callable[[], Figure]]]:
    """(title, how to read it, what draws it)."""
    model = trainer.model
    rates = next((c for c in trainer.callbacks if isinstance(c, LearningRateLog)), None)
    yield (
        "Learning curves",
        "Training: means over an epoch's batches while the weights changed. Validation: at the "
        "end of each epoch.",
        lambda: plots.learning_curves(trainer.history, rates),
    )
    if len(images):
        probabilities = trainer.predict_proba(images)
        said = probabilities.argmax(axis=1)
        yield (
            "Confusion matrix",
            "Test images of each true class (row) by what the network said (column). The colour "
            "counts mistakes; at the right the share of the row that is right.",
            lambda: plots.confusion_matrix(labels, said, model.class_names),
        )
        yield (
            "The worst mistakes",
            "Test images with the highest probability of a wrong class.",
            lambda: plots.mistakes(images, labels, probabilities, class_names=model.class_names),
        )
    if any(isinstance(layer, Conv2d) for _, layer in model.named_layers()):
        yield (
            "Filters",
            "Weights of the first convolution: orange adds brightness, purple takes it away.",
            lambda: plots.filters(model),
        )
    if len(images):
        yield (
            "Feature maps",
            "The first test image in every layer; at the right the ends of each row's scale.",
            lambda: plots.feature_maps(model, images[0], int(labels[0])),
        )
        yield (
            "Saliency by gradient",
            "Bright pixels change the logit most.",
            lambda: plots.saliency(model, images[0]),
        )
        yield (
            "Saliency by occlusion",
            "Orange: what is there speaks for the class; purple: against it.",
            lambda: plots.saliency(model, images[0], "occlusion"),
        )
        batch = images[: trainer.batch_size or 100]
        yield (
            "Time of each layer",
            "The shortest of 20 runs. The share counts all products of a plain convolution; "
            "Winograd's algorithm and skipped zeros save some.",
            lambda: plots.layer_times(model, batch),
        )


def _figure(title: str, caption: str, draw: Callable[[], Figure]) -> str:
    figure = draw()
    content = base64.b64encode(plots.png(figure, DPI)).decode()
    width = round(figure.get_figwidth() * 100)
    return (
        f"<h2>{escape(title)}</h2>\n<figure>\n"
        f'<img src="data:image/png;base64,{content}" width="{width}" alt="{escape(title)}">\n'
        f"<figcaption>{escape(caption)}</figcaption>\n</figure>"
    )

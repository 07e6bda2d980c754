"""Pictures of a training and of a trained network, by matplotlib: the extra `plot`.

Each function returns a `matplotlib.figure.Figure` that belongs to nobody else: no window opens, and
nothing of `pyplot` is read or changed. `save(figure, path)` writes it as .png or .svg; a notebook
shows what its cell's last line returns.

    history = trainer.fit(mnist.train, mnist.validation, epochs=4, batch_size=100)
    plots.save(plots.learning_curves(history), "curves.png")

A call without matplotlib is an ImportError with the line to type. Colours are safe for the colour
blind, and a picture is 800 pixels wide.
"""

from pycnn.plots._figure import check, png, save
from pycnn.plots.inside import feature_maps, filters
from pycnn.plots.pixels import saliency
from pycnn.plots.results import confusion_matrix, mistakes
from pycnn.plots.timing import LayerTime, layer_times, measure_layers
from pycnn.plots.training import learning_curves

__all__ = [
    "LayerTime",
    "check",
    "confusion_matrix",
    "feature_maps",
    "filters",
    "layer_times",
    "learning_curves",
    "measure_layers",
    "mistakes",
    "png",
    "saliency",
    "save",
]

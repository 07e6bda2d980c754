"""Pictures of which pixels a decision hangs on."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pycnn._runtime.checks import is_choice, is_whole
from pycnn.layers import Module
from pycnn.ops.arrays import Array
from pycnn.plots._arguments import (
    checked_logits,
    checked_model,
    class_name,
    differentiable,
    model_input,
    one_image,
    refuse,
    shown,
    softmax,
    verdict,
)
from pycnn.plots._figure import DIVERGING, bare, limits, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

METHODS = ("gradient", "occlusion")
BATCH = 256  # occluded images at once


def saliency(
    model: Module,
    image: npt.NDArray[Any],
    method: str = "gradient",
    label: int | None = None,
) -> Figure:
    """Which pixels speak for a class: the image, the map, and the map over the image.

    image: [H, W, C], uint8, or float32 of 0 to 1; `model.normalization` is applied. label: the
    class in question, by default the one the network predicts. The model runs in eval mode, as a
    copy.

    method "gradient": the largest of |d logit[label] / d pixel| over the channels: where a small
    change of brightness changes the logit most (Simonyan, Vedaldi & Zisserman 2013). "occlusion":
    a square of a seventh of the image's height is set to zero, place by place; a pixel's value is
    the mean, over the squares that cover it, of how much they lower the log-odds
    log(p / (1 - p)) of the class (after Zeiler & Fergus 2014). Positive: the ink, or the empty
    place, speaks for the class; negative: against it.

    Raises ValueError for another method or a label that the model does not have, TypeError or
    ValueError for what is no image for it, ImportError without matplotlib.
    """
    who = "saliency"
    checked_model(who, model)
    batch = one_image(who, image, model)
    if not is_choice(method, METHODS):
        refuse(who, "method", repr(method), '"gradient" or "occlusion"', ValueError)
    logits = checked_logits(who, _logits(model, batch))
    probabilities = softmax(logits)[0]
    if label is None:
        label = int(logits[0].argmax())
    K = logits.shape[1]
    if not is_whole(label, 0, K - 1):
        refuse(who, "label", repr(label), f"a class, 0 to {K - 1}", ValueError)
    if method == "gradient":
        values = gradient(model, batch, label)
        cmap, scale = "cividis", (0.0, limits(values)[1])
        name = f"|d logit of {class_name(model, label)} / d pixel|"
    else:
        values, size = occlusion(model, batch, label)
        cmap, scale = DIVERGING, limits(values, symmetric=True)
        name = (
            f"fall of the log-odds of {class_name(model, label)}\nunder a square of {size} x {size}"
        )
    title = f"T{verdict(model, probabilities)[1:]}"
    if label != probabilities.argmax() and np.isfinite(probabilities).all():
        title += f"; asked for {class_name(model, label)} ({100 * probabilities[label]:.1f} %)"
    return _draw(batch[0], values, (cmap, scale, name), title)


def gradient(model: Module, batch: npt.NDArray[Any], label: int) -> Array:
    """The map |d logit[label] / d pixel|, max over C, [H, W], in eval mode; batch: [1, H, W, C]."""
    x = model_input(model, batch)
    network = differentiable(model, x.shape)
    dlogits = np.zeros_like(network.forward(x))
    dlogits[0, label] = 1
    dx = network.backward(dlogits) / np.asarray(model.normalization.std, x.dtype)
    return np.asarray(np.abs(dx[0]).max(axis=2))


def occlusion(model: Module, batch: npt.NDArray[Any], label: int) -> tuple[Array, int]:
    """The map [H, W] and the side of the square; batch: [1, H, W, C]."""
    _, H, W, _ = batch.shape
    size = max(1, min(round(H / 7), W))
    tops, lefts = _places(H, size), _places(W, size)
    corners = [(top, left) for top in tops for left in lefts]
    before = _log_odds(_logits(model, batch), label)[0]
    network = copy.deepcopy(model).eval()
    total, covers = np.zeros((H, W)), np.zeros((H, W))
    for first in range(0, len(corners), BATCH):
        part = corners[first : first + BATCH]
        occluded = np.repeat(batch, len(part), axis=0)
        for one, (top, left) in zip(occluded, part, strict=True):
            one[top : top + size, left : left + size] = 0
        after = _log_odds(network.forward(model_input(model, occluded)), label)
        for fall, (top, left) in zip(before - after, part, strict=True):
            total[top : top + size, left : left + size] += fall
            covers[top : top + size, left : left + size] += 1
    return total / covers, size


def _places(extent: int, size: int) -> list[int]:
    """Where squares begin: a quarter of a square apart, the last one at the rim."""
    return sorted({*range(0, extent - size, max(1, size // 4)), extent - size})


def _logits(model: Module, batch: npt.NDArray[Any]) -> Array:
    return np.asarray(copy.deepcopy(model).eval().forward(model_input(model, batch)))


def _log_odds(logits: Array, label: int) -> Array:
    """log(p / (1 - p)) of the class: its logit minus the log of the sum of exp of the others."""
    values = logits.astype(np.float64)
    others = np.delete(values, label, axis=1)
    if not others.shape[1]:
        return np.asarray(values[:, label])
    top = others.max(axis=1)
    return np.asarray(values[:, label] - top - np.log(np.exp(others - top[:, None]).sum(axis=1)))


def _draw(
    image: npt.NDArray[Any],
    values: Array,
    colours: tuple[str, tuple[float, float], str],
    title: str,
) -> Figure:
    cmap, scale, name = colours
    figure = new_figure("saliency", 3.4)
    figure.suptitle(title)
    panels = figure.subplots(1, 3)
    panels[0].imshow(shown(image), cmap="gray", vmin=0, vmax=1)
    panels[0].set_title("image", fontsize=10)
    picture = panels[1].imshow(values, cmap=cmap, vmin=scale[0], vmax=scale[1])
    panels[1].set_title(name, fontsize=10)
    panels[2].imshow(shown(image), cmap="gray", vmin=0, vmax=1)
    panels[2].imshow(values, cmap=cmap, vmin=scale[0], vmax=scale[1], alpha=0.65)
    panels[2].set_title("both", fontsize=10)
    for axes in panels:
        bare(axes)
    bar = figure.colorbar(picture, ax=list(panels), fraction=0.02)
    bar.outline.set_visible(False)
    return figure

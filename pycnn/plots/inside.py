"""Pictures of a network's weights and of what its layers compute."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from pycnn.layers import Conv2d, Module
from pycnn.ops.arrays import Array
from pycnn.plots._arguments import (
    checked_count,
    checked_logits,
    checked_model,
    class_name,
    model_input,
    one_image,
    refuse,
    shown,
    softmax,
    verdict,
)
from pycnn.plots._figure import (
    BLUE,
    DIVERGING,
    GREY,
    ORANGE,
    SEQUENTIAL,
    WIDTH,
    bare,
    limits,
    new_figure,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = 12  # maps or filters in a row
ROWS = 16  # of filters
GAP = 0.08  # between two maps, of a map's width


def filters(model: Module, layer: int | str | None = None) -> Figure:
    """The weights of a convolution, a picture a filter; all on one scale with zero in the middle.

    layer: the name of a Conv2d, as in `state_dict()`: 0, "0" or "1.0"; by default the first one. If
    its images have one channel, each picture is an output channel; else a row is an output channel,
    a column an input channel. At most 16 rows and 12 columns are drawn, the title tells of how
    many.

    Raises ValueError for a layer that is no Conv2d of the model, or a model without one,
    ImportError without matplotlib.
    """
    name, conv = _convolution(checked_model("filters", model), layer)
    weight = conv.weight.data
    KH, KW, C, OC = weight.shape
    if C == 1:
        columns = -(-OC // -(-OC // COLUMNS))  # rows of one length, where that is possible
        tiles = [weight[:, :, 0, i] for i in range(min(OC, ROWS * COLUMNS))]
        drawn = f"{len(tiles)} of {OC}" if len(tiles) < OC else f"all {OC}"
    else:
        columns, rows = min(COLUMNS, C), min(ROWS, OC)
        tiles = [weight[:, :, j, i] for i in range(rows) for j in range(columns)]
        drawn = f"outputs (rows) {rows} of {OC}, inputs (columns) {columns} of {C}"
    count = -(-len(tiles) // columns)
    side = min(6.6 / columns, 1.2)  # inches of a tile's width
    width = min(max(4.5, side * columns + 1.4), WIDTH)  # few columns: a narrow figure, no gap
    figure = new_figure("filters", side * count * KH / KW + 1.2, width)
    title = f"Filters of layer {name}, Conv2d, {KH} x {KW}:"
    fits = len(title) + len(drawn) < 11 * width  # letters
    figure.suptitle(title + (" " if fits else "\n") + drawn)
    axes = figure.subplots()
    scale = limits(weight, symmetric=True)
    for i, tile in enumerate(tiles):
        picture = _tile(axes, i % columns, i // columns, tile, DIVERGING, scale)
    _frame(axes, columns, count, KH / KW)
    bar = figure.colorbar(picture, ax=axes, fraction=0.025, label="weight")
    bar.outline.set_visible(False)
    return figure


def _convolution(model: Module, layer: int | str | None) -> tuple[str, Conv2d]:
    found = {name: part for name, part in model.named_layers() if isinstance(part, Conv2d)}
    if not found:
        refuse("filters", "model", "without a Conv2d", "one with a convolution", ValueError)
    if layer is None:
        return next(iter(found.items()))
    if str(layer) not in found:
        expected = f"the name of a Conv2d: {', '.join(found)}"
        refuse("filters", "layer", repr(layer), expected, ValueError)
    return str(layer), found[str(layer)]


def layer_outputs(model: Module, image: npt.NDArray[Any]) -> list[tuple[str, str, Array]]:
    """(name, kind, y) of every call in eval mode, each by itself; image: a batch [1, H, W, C].

    A copy of the model runs, so a training that is under way is not disturbed.
    """
    x = model_input(model, image)
    program = copy.deepcopy(model).eval().program(x.shape)
    return [(node.name, node.kind, y) for node, ys in program.evaluate([x]) for y in ys]


def feature_maps(
    model: Module, image: npt.NDArray[Any], label: int | None = None, maps: int = COLUMNS
) -> Figure:
    """What every layer makes of one image, from the first to the last, in eval mode.

    image: [H, W, C], uint8, or float32 of 0 to 1; `model.normalization` is applied. label: its true
    class, for the title. maps: so many of each layer's channels are drawn, the first ones, on one
    scale for the layer, whose ends stand at the right. Vectors are drawn as one strip, short ones
    as bars.

    Each layer runs by itself, in the order of the model; a training runs some of them as one
    (`model.plan()`). Raises TypeError or ValueError for what is no image for this model,
    ImportError without matplotlib.
    """
    who = "feature_maps"
    batch = one_image(who, image, model)
    maps = checked_count(who, "maps", maps)
    outputs = layer_outputs(checked_model(who, model), batch)
    figure, panels = _strips(who, len(outputs) + 1, maps)
    _tile(panels[0], 0, 0, shown(batch[0]), "gray", (0.0, 1.0), square=True)
    _frame(panels[0], maps, 1, 1.0)
    _name(panels[0], f"image\n{_size(batch[0])}")
    for axes, (name, kind, y) in zip(panels[1:], outputs, strict=True):
        _name(axes, f"{name} {kind}\n{_size(y[0])}")
        if y.ndim == 4:
            drawn = y[0, :, :, :maps]
            scale = limits(drawn)
            for i in range(drawn.shape[2]):
                _tile(axes, i, 0, drawn[:, :, i], SEQUENTIAL, scale, square=True)
            _frame(axes, maps, 1, 1.0)
            _ends(axes, scale)
        else:
            _draw_vector(axes, y.reshape(-1), numbers=axes is panels[-1])
    last = outputs[-1][2]
    title = "Every layer's output"
    if label is not None:
        title += f" for a {class_name(model, label)}"
    if last.ndim == 2:
        title += f"; {verdict(model, softmax(checked_logits(who, last))[0])}"
    figure.suptitle(title, y=1 - 0.1 / figure.get_figheight())
    return figure


def _strips(who: str, count: int, maps: int) -> tuple[Figure, list[Axes]]:
    """Axes below each other in which `maps` square maps stand beside each other."""
    left, right, top, between = 1.35, 0.85, 0.45, 0.10  # inches
    width = WIDTH - left - right
    height = width * 1.04 / (maps * (1 + GAP) - GAP + 0.04) if maps > 4 else width / 5
    total = top + count * (height + between) + 0.2
    figure = new_figure(who, total)
    figure.set_layout_engine("none")  # places are known: names at the left, numbers at the right
    bottoms = [total - top - height - i * (height + between) for i in range(count)]
    return figure, [
        figure.add_axes((left / WIDTH, b / total, width / WIDTH, height / total)) for b in bottoms
    ]


def _size(y: npt.NDArray[Any]) -> str:
    return " x ".join(map(str, y.shape))


def _tile(
    axes: Axes,
    column: int,
    row: int,
    values: Any,
    cmap: str,
    scale: tuple[float, float],
    square: bool = False,
) -> Any:
    """One map in a grid of places of width 1; with `square` it is fitted into one of height 1."""
    H, W = values.shape[:2]
    width, height = 1.0, H / W
    x, y = column * (1 + GAP), row * (height + GAP)
    if square:
        width, height = min(1.0, W / H), min(1.0, H / W)
        x, y = x + (1 - width) / 2, row * (1 + GAP) + (1 - height) / 2
    return axes.imshow(
        values,
        cmap=cmap,
        vmin=scale[0],
        vmax=scale[1],
        extent=(x, x + width, y + height, y),
        interpolation="nearest",
    )


def _frame(axes: Axes, columns: int, rows: int, height: float) -> None:
    axes.set_xlim(-0.02, columns * (1 + GAP) - GAP + 0.02)
    axes.set_ylim(rows * (height + GAP) - GAP + 0.02, -0.02)
    bare(axes)


def _name(axes: Axes, text: str) -> None:
    axes.set_ylabel(text, rotation=0, ha="right", va="center", fontsize=8, labelpad=6)


def _ends(axes: Axes, scale: tuple[float, float]) -> None:
    text = f"{scale[0]:.3g}\nto {scale[1]:.3g}"
    axes.annotate(text, (1.01, 0.5), xycoords="axes fraction", fontsize=7, va="center", color=GREY)


def _draw_vector(axes: Axes, values: Array, numbers: bool) -> None:
    scale = limits(values)
    bare(axes)
    if len(values) > 40:
        axes.imshow(values[None], cmap=SEQUENTIAL, vmin=scale[0], vmax=scale[1], aspect="auto")
    else:
        colours = [ORANGE if i == values.argmax() else BLUE for i in range(len(values))]
        axes.bar(range(len(values)), values, color=colours, width=0.7)
        axes.axhline(0, color=GREY, linewidth=0.8)
        every = -(-len(values) // 20)  # two digits a bar fit up to there
        axes.set_xticks(range(0, len(values), every) if numbers else [])
        axes.tick_params(length=0, labelsize=8)
    _ends(axes, scale)

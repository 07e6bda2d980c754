"""The picture of where a training step's time goes."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pycnn._runtime import machine as _config
from pycnn.graph.plan import Plan, text
from pycnn.graph.run import Run
from pycnn.layers import Module
from pycnn.layers.summary import one_image
from pycnn.plots._arguments import checked_count, checked_images, checked_model, model_input, refuse
from pycnn.plots._figure import BLUE, GREY, ORANGE, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WARM_UP = 5  # steps


@dataclass
class LayerTime:
    """A step of the plan: its layers, its shortest times, its arithmetic.

    forward, backward: seconds of the whole batch; backward is 0 where no gradient is asked for.
    forward_flop, backward_flop: of the whole batch, as if no product was saved (Winograd, zeros).
    """

    name: str
    kind: str
    forward_flop: float
    backward_flop: float
    forward_samples: list[float] = field(default_factory=list)
    backward_samples: list[float] = field(default_factory=list)

    @property
    def forward(self) -> float:
        """The shortest time of the forward."""
        return min(self.forward_samples, default=0.0)

    @property
    def backward(self) -> float:
        """The shortest time of the backward."""
        return min(self.backward_samples, default=0.0)

    def of_forward(self) -> tuple[float, float]:
        """Seconds and operations of the forward."""
        return self.forward, self.forward_flop

    def of_backward(self) -> tuple[float, float]:
        """Seconds and operations of the backward."""
        return self.backward, self.backward_flop


def measure_layers(
    model: Module,
    images: npt.NDArray[Any] | tuple[int | None, ...] | None = None,
    *,
    repeats: int = 20,
) -> list[LayerTime]:
    """Time forward and backward of each step of the model's plan, as a training runs them.

    images: a batch [N, H, W, C], uint8 or float32 of 0 to 1, or the shape of one, whose pixels are
    then drawn at random; N = None is 100. By default 100 images of `model.input_shape`. repeats: of
    the whole step, after 5 that are not counted. A copy of the model runs, in training mode, with
    a gradient of random numbers, without that of the images.

    What runs as one operator (`model.plan()`) is one step. Raises TypeError or ValueError for what
    are no images for the model.
    """
    who = "layer_times"
    checked_model(who, model)
    repeats = checked_count(who, "repeats", repeats)
    x = model_input(model, _batch(model, images))
    network = copy.deepcopy(model).train()
    runner = network._running
    plan = runner.plan_for((x,))
    run = Run()
    shape = plan.program.outputs[0].full_shape[1:]
    dy = np.random.default_rng(0).standard_normal((len(x), *shape)).astype(x.dtype)
    rows = list(_rows(plan, len(x)))
    for _ in range(WARM_UP + repeats):
        clock = time.perf_counter
        forward, backward = run.timed(plan, (x,), (dy,), clock)
        for row, index in rows:
            row.forward_samples.append(forward[index])
            row.backward_samples.append(backward.get(index, 0.0))
        network.zero_grad()
    for row, _ in rows:
        row.forward_samples = row.forward_samples[WARM_UP:]
        row.backward_samples = row.backward_samples[WARM_UP:]
    return [row for row, _ in rows]


def _batch(
    model: Module, images: npt.NDArray[Any] | tuple[int | None, ...] | None
) -> npt.NDArray[Any]:
    if isinstance(images, np.ndarray):
        return checked_images("layer_times", images, model)
    if images is None:
        if model.input_shape is None:
            refuse("layer_times", "images", None, "images or their shape: (100, 28, 28, 1)")
        images = (None, *model.input_shape)
    N, *rest = images
    shape = one_image((100 if N is None else N, *rest))
    return np.random.default_rng(0).random(shape, np.float32)


def _rows(plan: Plan, N: int) -> Iterator[tuple[LayerTime, int]]:
    """A row for each step of the plan, and the step's number."""
    wanted = {g.index: any(dx is not None for dx in g.dx) for g in plan.backward[False]}
    for i, (step, (names, kinds, _)) in enumerate(zip(plan.steps, text(plan.steps), strict=True)):
        flop = float(
            N * sum(n.operation.flop_per_image(n.inputs[0].full_shape) for n in step.nodes)
        )
        gradients = 2 if wanted.get(i) else 1  # the images' gradient is not computed
        yield LayerTime(names, kinds, flop, flop * gradients), i


def layer_times(
    model: Module,
    images: npt.NDArray[Any] | tuple[int | None, ...] | None = None,
    *,
    repeats: int = 20,
) -> Figure:
    """The time of each layer, forward and backward, and its share of the processor's FMA peak.

    images, repeats: see `measure_layers`. The times are the shortest ones of the repeats, on as
    many threads as are set. The share is the layer's arithmetic by its time, over the speed of
    independent fused multiply-adds on as many threads; layers without a convolution or product have
    none. Padding counts as if it were computed, and so do products with zero, which a block's
    backward skips, and those that Winograd's algorithm saves: a share may pass 100 %.

    Other programs on the machine spoil the figures. Raises what `measure_layers` raises, and
    ImportError without matplotlib.
    """
    figure = new_figure("layer_times", 1.0)
    rows = measure_layers(model, images, repeats=repeats)
    peak = _config.fma_peak()
    N = len(images) if isinstance(images, np.ndarray) else (images or (None,))[0] or 100
    figure.set_size_inches(8.0, 0.5 * len(rows) + 1.6)
    times, shares = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    for offset, colour, label, of in (
        (-0.2, BLUE, "forward", LayerTime.of_forward),
        (0.2, ORANGE, "backward", LayerTime.of_backward),
    ):
        places = [i + offset for i in range(len(rows))]
        seconds = [of(row)[0] for row in rows]
        bars = times.barh(places, [1e3 * s for s in seconds], 0.38, color=colour, label=label)
        times.bar_label(
            bars, [f"{1e3 * s:.3g}" if s else "" for s in seconds], padding=2, fontsize=8
        )
        share = [100 * of(row)[1] / of(row)[0] / 1e9 / peak if of(row)[0] else 0 for row in rows]
        bars = shares.barh(places, share, 0.38, color=colour)
        labels = [f"{s:.0f} %" if s else "" for s in share]
        over_the_line = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
        shares.bar_label(bars, labels, padding=2, fontsize=8, bbox=over_the_line)
    total = sum(row.forward + row.backward for row in rows)
    names = [f"{row.kind}\n{', '.join(row.name.split())}" for row in rows]
    times.set_yticks(range(len(rows)), names, fontsize=8)
    times.invert_yaxis()
    times.set_xlabel("time / ms")
    shares.set_xlabel("share of the FMA peak / %\n(above 100 %: products are saved)")
    shares.axvline(100, color=GREY, linewidth=0.8, linestyle="--", zorder=0)
    times.legend()
    for axes, room in ((times, 0.14), (shares, 0.22)):  # for the numbers behind the bars
        axes.margins(x=room)
        axes.locator_params(axis="x", nbins=4)  # numbers as long as 0.00015 lie apart, too
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="x", alpha=0.3)
        axes.set_axisbelow(True)
        axes.tick_params(axis="y", length=0)
    threads = _config.get_num_threads()
    figure.suptitle(
        f"{N} images: {1e3 * total:.3g} ms forward and backward; {_config.isa()}, "
        f"{threads} thread{'s' if threads > 1 else ''}, FMA peak {peak:.0f} GFLOP/s",
        fontsize=11,
    )
    return figure

"""Readers of Resize and Upsample."""

from __future__ import annotations

import math
from typing import Any

from pycnn.onnx.read_convs import image_of, image_view
from pycnn.onnx.reading import Reading
from pycnn.onnx.views import Unreadable, View, shown

MODES = {"nearest": "nearest", "linear": "bilinear", "cubic": "bicubic"}


def resize(r: Reading) -> View:
    """Resize and Upsample of the space of images."""
    x, node = r.view(), r.node
    mode = MODES.get(node.get("mode", "nearest"))
    if x.rank not in (3, 4) or mode is None:
        raise Unreadable(
            f"mode is {node.get('mode')!r} of {shown(x)}; expected {list(MODES)} of images"
        )
    old = r.opset < 11
    options: dict[str, Any] = {
        "mode": mode,
        "coordinates": node.get(
            "coordinate_transformation_mode", "asymmetric" if old else "half_pixel"
        ),
        "nearest": node.get("nearest_mode", "floor" if old else "round_prefer_floor"),
        "antialias": bool(node.get("antialias", 0)),
        "cubic": node.get("cubic_coeff_a", -0.75),
        "exclude_outside": bool(node.get("exclude_outside", 0)),
    }
    if options["coordinates"] == "tf_crop_and_resize":
        options |= {"roi": _region(r, x), "outside": node.get("extrapolation_value", 0.0)}
    size, scale = _new_sizes(r, x)
    if size is not None:
        options["size"] = size[-2:] if x.rank == 4 else (1, size[-1])
    if scale is not None:
        options["scale"] = scale[-2:] if x.rank == 4 else (1.0, scale[-1])
    return image_view(x, r.call(r.make("Resize", **options), image_of(r, x)))


def _region(r: Reading, x: View) -> tuple[tuple[float, float], ...]:
    """((top, bottom), (left, right)) of the second input."""
    given = r.constant(1).reshape(2, -1)
    axes = [a % x.rank for a in r.node.get("axes", range(x.rank))]
    sides = {a: (float(begin), float(end)) for a, (begin, end) in zip(axes, given.T, strict=True)}
    return tuple(sides.get(a, (0.0, 1.0)) for a in ((2, 3) if x.rank == 4 else (-1, 2)))


def _new_sizes(r: Reading, x: View) -> tuple[tuple[int, ...] | None, tuple[float, ...] | None]:
    """(sizes, scales) of all axes: one of them, or both where a policy rounds the size."""
    node = r.node
    axes = [a % x.rank for a in node.get("axes", range(x.rank))]
    given = r.maybe(3)
    if given is not None and given.size:
        new = dict(zip(axes, map(int, given.reshape(-1)), strict=True))
        policy = node.get("keep_aspect_ratio_policy", "stretch")
        if policy != "stretch":
            choose = min if policy == "not_larger" else max
            factor = choose(n / x.shape[a] for a, n in new.items())
            new = {a: math.floor(factor * x.shape[a] + 0.5) for a in new}
        size = tuple(new.get(i, n) for i, n in enumerate(x.shape))
        if size[:2] != x.shape[:2]:
            raise Unreadable(f"its new shape is {list(size)} of {shown(x)}; expected another H, W")
        if policy == "stretch":
            return size, None
        return size, tuple(factor if i in new else 1.0 for i in range(x.rank))
    if "scales" in node.attributes:
        found = tuple(map(float, node.get("scales")))
    else:
        at = 2 if r.opset >= 11 and node.operator == "Resize" else 1
        found = tuple(map(float, r.constant(at).reshape(-1)))
    factors = dict(zip(axes, found, strict=True))
    scale = tuple(factors.get(i, 1.0) for i in range(x.rank))
    if scale[:2] != (1.0, 1.0):
        raise Unreadable(f"its scales are {scale}; expected those of H and W alone")
    return None, scale

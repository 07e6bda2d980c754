"""Layers that make images larger or smaller."""

from __future__ import annotations

from typing import Any

from pycnn.layers.arguments import checked
from pycnn.layers.moves import Moving
from pycnn.ops import resized, taps


class Resize(Moving):
    """Images of another size, as ONNX defines it: [N, H, W, C] -> [N, OH, OW, C].

    size: (OH, OW), or scale: as many times as large, rounded down; one number stands for both
    axes. With both, pixels lie by the scale. mode: "nearest", "bilinear" or "bicubic". coordinates:
    where the pixels of y lie among those of x: "half_pixel" (PyTorch's align_corners=False),
    "align_corners", "asymmetric", "pytorch_half_pixel", "half_pixel_symmetric" or
    "tf_crop_and_resize". nearest: how a place is rounded, "round_prefer_floor",
    "round_prefer_ceil", "floor" or "ceil". Beyond an end the last pixel counts.

    antialias: a smaller image is the mean of all pixels below it. cubic: the coefficient of
    "bicubic". exclude_outside: pixels beyond an end have no weight. roi: the part of the image that
    "tf_crop_and_resize" shows, ((top, bottom), (left, right)) from 0 to 1; outside: what lies
    beyond the image there. Raises ValueError for another option.
    """

    def __init__(
        self,
        size: resized.Size | None = None,
        scale: resized.Scale | None = None,
        mode: str = "nearest",
        coordinates: str = "half_pixel",
        nearest: str = "round_prefer_floor",
        antialias: bool = False,
        cubic: float = -0.75,
        exclude_outside: bool = False,
        roi: Any = ((0.0, 1.0), (0.0, 1.0)),
        outside: float = 0.0,
    ) -> None:
        """Keep the options."""
        super().__init__()
        self.size, self.scale = size, scale
        self.mode, self.coordinates, self.nearest = mode, coordinates, nearest
        self.antialias, self.exclude_outside = bool(antialias), bool(exclude_outside)
        self.cubic, self.outside = float(cubic), float(outside)
        self.roi = tuple((float(begin), float(end)) for begin, end in roi)
        checked(self, lambda: self.move)

    @property
    def move(self) -> resized.Resize:
        """The places of the pixels."""
        names = self.mode, self.coordinates, self.nearest
        how = taps.Axis(*names, self.antialias, self.cubic, self.exclude_outside)
        return resized.resizing(self.size, self.scale, how, self.roi, self.outside)

    def _arguments(self) -> str:
        extent = f"scale={self.scale}" if self.size is None else f"size={self.size}"
        return f"{extent}, mode={self.mode!r}, coordinates={self.coordinates!r}"


class Upsample(Resize):
    """`Resize` as PyTorch's Upsample: [N, H, W, C] -> [N, OH, OW, C].

    size, or scale (PyTorch's scale_factor), and mode as in `Resize`; align_corners: whether the
    outermost pixels of both images lie upon each other, where mode is not "nearest".
    """

    def __init__(
        self,
        size: resized.Size | None = None,
        scale: resized.Scale | None = None,
        mode: str = "nearest",
        align_corners: bool = False,
    ) -> None:
        """Keep the options."""
        corners = "align_corners" if align_corners else "half_pixel"
        coordinates = "asymmetric" if mode == "nearest" else corners
        super().__init__(size, scale, mode, coordinates, "floor")
        self.align_corners = bool(align_corners)

    def _arguments(self) -> str:
        extent = f"scale={self.scale}" if self.size is None else f"size={self.size}"
        corners = ", align_corners=True" if self.align_corners else ""
        return f"{extent}, mode={self.mode!r}{corners}"

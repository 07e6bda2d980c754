"""Random distortions of images while a batch is gathered: `Augmentation` says which."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pycnn import ops
from pycnn.ops import images as _ops_images
from pycnn.ops.arrays import Array

Channels = _ops_images.Channels


@dataclass(frozen=True)
class Augmentation:
    """How far images may be distorted; every option is drawn anew for each image and epoch.

    shift: pixels; moved along x and along y by fractions of them, uniform in -shift .. shift
    rotation: degrees, 0 to 180; uniform in -rotation .. rotation, about the centre of the image
    scale: a share less than 1; width and height times factors, each uniform in 1 +- scale
    shear: a share; x grows by k * y from the centre on, k uniform in -shear .. shear
    elastic_alpha: pixels; each pixel is moved by alpha times noise, uniform in -1 .. 1, that a
        Gaussian of standard deviation elastic_sigma (pixels, above 0, at most 1000) has smoothed
        (Simard, Steinkraus & Platt 2003); 34 and 4 suit 28 x 28 digits
    erase: probability that a rectangle of 2 to 33 % of the image is set to zero (Zhong et al. 2017)

    All are 0 or more and finite; 0 turns one off. Shift, rotation, scale, shear and the elastic
    displacement are one map, looked up bilinearly once; outside the image is zero. The formulas and
    pictures stand in docs/augmentation.md. Raises ValueError for an option out of its range.
    """

    shift: float = 0.0
    rotation: float = 0.0
    scale: float = 0.0
    shear: float = 0.0
    elastic_alpha: float = 0.0
    elastic_sigma: float = 4.0
    erase: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what is out of range; keep plain floats."""
        options = _ops_images.check_options("Augmentation", **vars(self))
        for name, value in zip(self.__dataclass_fields__, options, strict=True):
            object.__setattr__(self, name, value)

    def gather(
        self,
        images: npt.ArrayLike,
        indices: npt.ArrayLike,
        *,
        seed: int,
        epoch: int,
        mean: Channels = 0.0,
        std: Channels = 1.0,
        out: Array | None = None,
    ) -> npt.NDArray[np.float32]:
        """A batch of distorted images: `ops.augment_images` with these options.

        images: uint8 or float32 [n, H, W, C]; indices: integers [B]; seed, epoch: whole numbers,
        0 to 2**64 - 1. Returns float32 [B, H, W, C]. An image's distortion depends on
        (seed, epoch, its index) alone.
        """
        return ops.augment_images(
            images, indices, seed=seed, epoch=epoch, mean=mean, std=std, out=out, **vars(self)
        )

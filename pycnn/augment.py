"""Random distortions of images while a batch is gathered: `Augmentation` says which."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
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
    crop: pixels of zeros put around the image, of which a part of its size is cut out at random: it
        moves by whole pixels, -crop .. crop along x and y, and is not blurred
    flip: probability that left and right change places
    brightness: a share, at most 1; pixels times a factor, uniform in 1 +- brightness
    contrast: a share, at most 1; what differs from the image's mean times one in 1 +- contrast
    mixup: a, at most 1; the sample becomes s of itself and 1 - s of the next one of its batch,
        labels too; s from the beta distribution (a, a) (Zhang et al. 2018). `Trainer` does this

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
    crop: int = 0
    flip: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    mixup: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what is out of range; keep plain numbers."""
        options = _ops_images.check_options("Augmentation", **vars(self))
        for field, value in zip(dataclasses.fields(self), options, strict=True):
            kept = int(value) if field.name == "crop" else value
            object.__setattr__(self, field.name, kept)

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
        """A batch of distorted images: `ops.augment_images` with these options, without mixup.

        images: uint8 or float32 [n, H, W, C]; indices: integers [B]; seed, epoch: whole numbers,
        0 to 2**64 - 1. Returns float32 [B, H, W, C]. An image's distortion depends on
        (seed, epoch, its index) alone.
        """
        options = {name: value for name, value in vars(self).items() if name != "mixup"}
        return ops.augment_images(
            images, indices, seed=seed, epoch=epoch, mean=mean, std=std, out=out, **options
        )


@dataclass(frozen=True)
class Mixup:
    """Mixup in one epoch of a training: Zhang et al. 2018, https://arxiv.org/abs/1710.09412.

    alpha: of Augmentation.mixup; seed: of the Trainer; classes_of: shape of a sample -> K.
    """

    alpha: float
    seed: int
    epoch: int
    classes_of: Callable[[tuple[int, ...]], int]

    def shares(self, samples: int, stream: int = 0) -> npt.NDArray[np.float32]:
        """How much each sample keeps of itself, by its number; stream: as in `gathering.gather_of`.

        Rounded to 1/65536, so that 1 - share is exact, and the last bit of a machine's pow and exp
        cannot show.
        """
        rng = np.random.default_rng([self.seed, 2, self.epoch, stream])
        drawn = rng.beta(self.alpha, self.alpha, samples)
        return (np.rint(drawn * 65536) / 65536).astype(np.float32)

    def mix(
        self, x: npt.NDArray[np.float32], labels: Array, shares: npt.NDArray[np.float32]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """The first B of B + 1 samples and labels, each mixed with the next; x in its own place.

        shares: [B]. labels: class numbers, which become rows [B, K], or rows of floats.
        """
        if labels.dtype.kind in "iu":
            if labels.ndim != 1:
                raise ValueError(
                    f"Augmentation: mixup mixes a class for each image, and labels are "
                    f"{labels.dtype} {labels.shape}; expected class numbers [n], or no mixup."
                )
            rows = np.zeros((len(labels), self.classes_of(x.shape[1:])), np.float32)
            rows[np.arange(len(labels)), labels] = 1
            labels = rows
        for array in (x, labels):
            own = shares.reshape(-1, *(1,) * (array.ndim - 1))
            others = array[1:] * (1 - own)
            array[:-1] *= own
            array[:-1] += others
        return x[:-1], labels[:-1]

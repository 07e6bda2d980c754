"""Loss functions: `loss, gradient = MSE()(outputs, targets, sample_weight=None)`.

All are means, and divide by the sum of the weights: of samples, and of classes. The gradient is
that of the outputs, a new array: give it to `model.backward`. Where nothing weighs anything, both
are 0.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from pycnn import ops
from pycnn._runtime.checks import is_real, is_whole
from pycnn.ops.arrays import Array


class Loss:
    """The base of all: a loss of your own may be one, or any function (outputs, targets).

    classes: whether targets are class numbers; else they are numbers of the outputs' shape.
    """

    classes = False
    weighs = False  # whether samples weigh differently even if they have no weights
    _defaults: ClassVar[dict[str, Any]] = {}  # of the arguments, each kept as its attribute

    def __call__(
        self, outputs: Array, targets: Array, sample_weight: Array | None = None
    ) -> tuple[float, Array]:
        """(loss, gradient of the outputs)."""
        raise NotImplementedError(f"{type(self).__name__}: define __call__.")

    def weight(self, targets: Array, sample_weight: Array | None = None) -> float:
        """What the mean over these samples is divided by, up to a factor that is always the same.

        By it, means over parts of a batch become their parts of the mean over the batch.
        """
        return len(targets) if sample_weight is None else math.fsum(sample_weight.flat)

    def answers(self, outputs: Array) -> Array:
        """What a model says that was trained with this loss: the outputs themselves."""
        return outputs

    def probabilities(self, outputs: Array) -> Array:
        """The same as probabilities, if it has any."""
        raise TypeError(
            f"{type(self).__name__}: outputs are no probabilities; expected a classifier: use "
            "predict."
        )

    def settings(self) -> dict[str, Any]:
        """The arguments of the constructor, as JSON holds them: a resumed run has the same."""
        found = {name: getattr(self, name) for name in self._defaults}
        return {n: v.tolist() if isinstance(v, np.ndarray) else v for n, v in found.items()}

    def __repr__(self) -> str:
        """The loss as one writes it, without what is not set."""
        given = [f"{n}={v}" for n, v in self.settings().items() if v != self._defaults[n]]
        return f"{type(self).__name__}({', '.join(given)})"


class MSE(Loss):
    """The mean squared error. outputs and targets [N, ...] of one shape and type."""

    def __call__(
        self, outputs: Array, targets: Array, sample_weight: Array | None = None
    ) -> tuple[float, Array]:
        """See `ops.mse_loss`."""
        return ops.mse_loss(outputs, targets, sample_weight=sample_weight)


class L1(Loss):
    """The mean absolute error. outputs and targets [N, ...] of one shape and type."""

    def __call__(
        self, outputs: Array, targets: Array, sample_weight: Array | None = None
    ) -> tuple[float, Array]:
        """See `ops.l1_loss`."""
        return ops.l1_loss(outputs, targets, sample_weight=sample_weight)


class Huber(Loss):
    """Squared near 0, absolute from delta on: d^2 / 2, then delta (|d| - delta / 2)."""

    _defaults: ClassVar = {"delta": 1.0}

    def __init__(self, delta: float = 1.0) -> None:
        """Raises ValueError unless delta is a finite number above 0."""
        if not is_real(delta) or not 0 < delta < math.inf:
            raise ValueError(f"Huber: delta is {delta!r}; expected a finite number above 0.")
        self.delta = float(delta)

    def __call__(
        self, outputs: Array, targets: Array, sample_weight: Array | None = None
    ) -> tuple[float, Array]:
        """See `ops.huber_loss`."""
        return ops.huber_loss(outputs, targets, delta=self.delta, sample_weight=sample_weight)


class BinaryCrossEntropy(Loss):
    """Cross entropy of yes and no, for each output by itself: several labels may be true.

    outputs: logits [N, ..., K]; targets of their shape and type: 1, 0, or a probability.
    pos_weight: what a yes counts beside a no, a number or [K], so that rare labels are found.
    Sigmoid is inside: exact for logits of any size.
    """

    _defaults: ClassVar = {"pos_weight": None}

    def __init__(self, pos_weight: npt.ArrayLike | None = None) -> None:
        """Raises ValueError for weights that are none."""
        self.pos_weight = _weights(pos_weight, "BinaryCrossEntropy", "pos_weight", scalar=True)

    def __call__(
        self, outputs: Array, targets: Array, sample_weight: Array | None = None
    ) -> tuple[float, Array]:
        """See `ops.binary_cross_entropy_with_logits`."""
        return ops.binary_cross_entropy_with_logits(
            outputs, targets, pos_weight=self.pos_weight, sample_weight=sample_weight
        )

    def answers(self, outputs: Array) -> Array:
        """Yes where its probability is above one half: booleans of the outputs' shape."""
        return np.asarray(outputs > 0)

    def probabilities(self, outputs: Array) -> Array:
        """Of yes: sigmoid of each."""
        pairs = np.stack([outputs, np.zeros_like(outputs)], axis=-1)
        return ops.softmax(pairs)[..., 0]


class SoftmaxCrossEntropy(Loss):
    """The mean over the batch of -sum over k of target[k] * log(softmax(logits)[k]).

    `loss, dlogits = SoftmaxCrossEntropy()(logits, labels)`. logits: [N, K] float32 or float64, or
    maps [N, H, W, K]; labels: class numbers, integers [N] or [N, H, W], or soft ones, rows of
    targets as large as logits. loss: a float; dlogits = (softmax(logits) - target) / N.

    label_smoothing: s makes (1 - s) * one_hot + s / K of a label. class_weights: [K], so that rare
    classes count more; the mean is divided by the labels' weights, as in PyTorch. ignore_index:
    labels of this number, perhaps none of a class, count for nothing.

    Softmax is inside because log(softmax(x)) at once is exact where softmax alone would be 0. Same
    as tf.nn.softmax_cross_entropy_with_logits_v2 and a mean. Raises ValueError for arguments out of
    range; bad logits and labels are refused as in `ops.softmax_cross_entropy`.
    """

    classes = True
    _defaults: ClassVar = {"label_smoothing": 0.0, "class_weights": None, "ignore_index": None}

    def __init__(
        self,
        label_smoothing: float = 0.0,
        class_weights: npt.ArrayLike | None = None,
        ignore_index: int | None = None,
    ) -> None:
        """Check the arguments."""
        if not isinstance(label_smoothing, (int, float)) or not 0 <= label_smoothing < 1:
            raise ValueError(
                f"SoftmaxCrossEntropy: label_smoothing is {label_smoothing!r}; "
                "expected 0 <= label_smoothing < 1."
            )
        if ignore_index is not None and not is_whole(ignore_index, -(2**31), 2**31 - 1):
            raise ValueError(
                f"SoftmaxCrossEntropy: ignore_index is {ignore_index!r}; expected an int, as 255, "
                "or None."
            )
        self.label_smoothing = float(label_smoothing)
        self.class_weights = _weights(class_weights, "SoftmaxCrossEntropy", "class_weights")
        self.ignore_index = None if ignore_index is None else int(ignore_index)
        self.weighs = self.class_weights is not None or ignore_index is not None

    def __call__(
        self, outputs: Array, targets: Array, sample_weight: Array | None = None
    ) -> tuple[float, Array]:
        """(loss, dlogits)."""
        return ops.softmax_cross_entropy(
            outputs,
            targets,
            label_smoothing=self.label_smoothing,
            class_weights=self.class_weights,
            ignore_index=self.ignore_index,
            sample_weight=sample_weight,
        )

    def weight(self, targets: Array, sample_weight: Array | None = None) -> float:
        """The sum of what the labels weigh."""
        soft = targets.dtype.kind == "f"
        if soft or (self.class_weights is None and self.ignore_index is None):
            return super().weight(targets, sample_weight)
        counts = targets.reshape(-1) != self.ignore_index
        weights = None
        if sample_weight is not None:
            weights = np.repeat(sample_weight, targets.size // sample_weight.size)[counts]
        of_classes = np.bincount(targets.reshape(-1)[counts], weights)  # added in order
        if self.class_weights is not None:
            of_classes = of_classes * self.class_weights[: len(of_classes)]
        return math.fsum(of_classes.tolist())

    def answers(self, outputs: Array) -> Array:
        """The most probable class of each row."""
        return np.asarray(outputs.argmax(axis=-1), np.int64)

    def probabilities(self, outputs: Array) -> Array:
        """Softmax."""
        return ops.softmax(outputs)


def _weights(given: Any, who: str, name: str, scalar: bool = False) -> Array | None:
    """float64 [K], or [] for a number if that is allowed; None for None."""
    if given is None:
        return None
    try:
        found = np.array(given, np.float64)
    except (TypeError, ValueError):
        found = np.array([np.nan])
    right = found.ndim == 1 or (scalar and found.ndim == 0)
    if not right or not found.size or not (np.isfinite(found).all() and found.min() >= 0):
        number = "a number, or " if scalar else ""
        raise ValueError(
            f"{who}: {name} is {given!r}; expected {number}one for each class, finite and not "
            "negative."
        )
    return found

"""Loss functions: (loss, gradient of the model's output)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from pycnn import ops


class SoftmaxCrossEntropy:
    """The mean over the batch of -sum over k of target[k] * log(softmax(logits)[k]).

    `loss, dlogits = SoftmaxCrossEntropy()(logits, labels)`. logits: [N, K] float32 or float64;
    labels: class numbers, integers [N], or one-hot rows [N, K]. loss: a float; dlogits [N, K] =
    (softmax(logits) - target) / N, a new array: give it to `model.backward`. With
    `label_smoothing` s, target = (1 - s) * one_hot + s / K.

    Softmax is inside because log(softmax(x)) at once is exact where softmax alone would be 0. Same
    as tf.nn.softmax_cross_entropy_with_logits_v2 and a mean. Raises ValueError for s outside of
    [0, 1); bad logits and labels are refused as in `ops.softmax_cross_entropy`.
    """

    def __init__(self, label_smoothing: float = 0.0) -> None:
        """Check the smoothing."""
        if not isinstance(label_smoothing, (int, float)) or not 0 <= label_smoothing < 1:
            raise ValueError(
                f"SoftmaxCrossEntropy: label_smoothing is {label_smoothing!r}; "
                "expected 0 <= label_smoothing < 1."
            )
        self.label_smoothing = float(label_smoothing)

    def __call__(
        self, logits: npt.NDArray[Any], labels: npt.NDArray[Any]
    ) -> tuple[float, npt.NDArray[Any]]:
        """(loss, dlogits)."""
        loss, dlogits = ops.softmax_cross_entropy(
            logits, labels, label_smoothing=self.label_smoothing
        )
        return float(loss), np.asarray(dlogits)

    def settings(self) -> dict[str, Any]:
        """The argument of the constructor: a resumed run has the same."""
        return {"label_smoothing": self.label_smoothing}

    def __repr__(self) -> str:
        """The loss as one writes it."""
        smoothing = f"label_smoothing={self.label_smoothing}" if self.label_smoothing else ""
        return f"SoftmaxCrossEntropy({smoothing})"

"""The loss that `Trainer` is given: one of `pycnn.losses`, or a function of the user's own."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from pycnn.losses import Loss, SoftmaxCrossEntropy
from pycnn.ops.arrays import Array
from pycnn.trainer.data import Function, described, expect
from pycnn.trainer.targets import Batch


def name_of(function: Any) -> str:
    """Of a function, or of the class of an object."""
    return str(getattr(function, "__name__", type(function).__name__))


def kind_of_targets(loss: Any) -> bool | None:
    """Whether the loss wants class numbers; None: a function of one's own, which may."""
    return loss.classes if isinstance(loss, Loss) else None


def says(loss: Any) -> Loss:
    """What tells answers and probabilities from outputs: classes, for a function of one's own."""
    return loss if isinstance(loss, Loss) else SoftmaxCrossEntropy()


def check_loss(loss: object) -> Function:
    """The loss; TypeError for what cannot be called, and for a class."""
    if isinstance(loss, type):
        raise TypeError(
            f"Trainer: loss is the class {loss.__name__}; expected one of its objects: write "
            f"loss={loss.__name__}()."
        )
    expected = "a function (logits, labels) -> (loss, gradient): losses.SoftmaxCrossEntropy(), say"
    expect(callable(loss), "loss", loss, expected)
    return loss  # type: ignore[return-value]


def loss_of(function: Function, outputs: Array, batch: Batch) -> tuple[float, Array]:
    """(loss, gradient of the outputs) of a function that is perhaps the user's own."""
    given: Any = (outputs, batch.targets)
    found: Any = function(*given) if batch.weights is None else function(*given, batch.weights)
    if type(found) is tuple and len(found) == 2:
        loss, gradient = found
        right = type(gradient) is np.ndarray and gradient.dtype == outputs.dtype
        if right and gradient.shape == outputs.shape and type(loss) is float:
            return loss, gradient
    return _checked_loss(name_of(function), found, outputs)


def _checked_loss(who: str, found: Any, logits: Array) -> tuple[float, Array]:
    """The same for a loss that is no plain float; or the sentence."""
    if not isinstance(found, (tuple, list)) or len(found) != 2:
        number = isinstance(found, (int, float, np.number))
        given = f"the number {found!r}" if number else described(found)
        raise TypeError(
            f"Trainer: the loss {who} returned {given}; expected a pair (loss, gradient of the "
            "logits), as losses.SoftmaxCrossEntropy() returns."
        )
    loss, dlogits = found
    try:
        value = float(loss)
    except (TypeError, ValueError):
        raise TypeError(
            f"Trainer: the loss {who} returned {described(loss)} as its loss; expected a number, "
            "the mean over the batch."
        ) from None
    if not isinstance(dlogits, np.ndarray) or dlogits.dtype != logits.dtype:
        array = isinstance(dlogits, np.ndarray)
        advice = f": write dlogits.astype(np.{logits.dtype})" if array else ""
        raise TypeError(
            f"Trainer: the loss {who} returned {described(dlogits)} as its gradient; expected "
            f"{described(logits)}, as the logits{advice}."
        )
    if dlogits.shape != logits.shape:
        raise ValueError(
            f"Trainer: the loss {who} returned a gradient of shape {dlogits.shape}; expected "
            f"{logits.shape}, that of the logits."
        )
    return value, dlogits


def check_takes_weights(loss: Any) -> None:
    """TypeError for a function of one's own that has no argument for the data's weights."""
    if isinstance(loss, Loss):
        return
    try:
        inspect.signature(loss).bind(None, None, None)
    except TypeError:
        raise TypeError(
            f"Trainer: the data has weights, and the loss {name_of(loss)} takes two arguments; "
            "expected a third one: def loss(outputs, targets, weights)."
        ) from None
    except ValueError:  # of a builtin
        return


def weight_of(loss: Any, batch: Batch) -> float:
    """What a mean over these samples is divided by, up to a factor."""
    if isinstance(loss, Loss):
        assert batch.targets is not None
        return loss.weight(batch.targets, batch.weights)
    return float(len(batch)) if batch.weights is None else math.fsum(batch.weights.tolist())


def weigher(loss: Any, batch: Batch) -> Callable[[slice], float] | None:
    """What tells the weight of a part of the batch; None where it is the number of samples."""
    if batch.weights is None and not getattr(loss, "weighs", False):
        return None
    return lambda rows: weight_of(loss, batch.part(rows))

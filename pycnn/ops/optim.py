"""Optimizer steps: of one parameter, and of all parameters of an optimizer in one call."""

from __future__ import annotations

import math
from typing import Any

import _pycnn
import numpy.typing as npt

from pycnn.ops.arrays import Array, check_updated, contiguous, count, number

Roles = list[list[Any]]  # data, gradients and moments, each one array a parameter


def _finite(op: str, **values: float) -> list[float]:
    for name, value in values.items():
        if not 0.0 <= number(value) < math.inf:
            raise ValueError(f"{op}: {name} is {value!r}; expected a finite number, 0 or more.")
    return [number(value) for value in values.values()]


def adam_step(
    param: Array,
    grad: npt.ArrayLike,
    m: Array,
    v: Array,
    *,
    step: int,
    lr: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> None:
    """One step of Adam in place on param, m and v (Kingma & Ba 2015, algorithm 1).

    param, grad, m, v: of one shape and type; step counts from 1; with t = step:

        param -= lr * weight_decay * param                       (decoupled: Loshchilov & Hutter)
        m = beta1 * m + (1 - beta1) * grad
        v = beta2 * v + (1 - beta2) * grad**2
        param -= lr * (m / (1 - beta1**t)) / (sqrt(v / (1 - beta2**t)) + eps)

    TensorFlow 1's AdamOptimizer adds its epsilon to sqrt(v) before the bias correction (Kingma &
    Ba's "epsilon hat"), so its epsilon acts as eps / sqrt(1 - beta2**t) would here: larger in the
    first steps, the same in the limit. Raises ValueError for shapes, shared memory or options that
    do not fit, TypeError for types.
    """
    op = "adam_step"
    check_updated(op, param=param, m=m, v=v)
    t = count(step, op, "step")
    rate, epsilon, decay = _finite(op, lr=lr, eps=eps, weight_decay=weight_decay)
    for name, beta in (("beta1", beta1), ("beta2", beta2)):
        if not 0.0 <= number(beta) < 1.0:
            raise ValueError(f"{op}: {name} is {beta!r}; expected 0 or more and less than 1.")
    betas = number(beta1), number(beta2)
    _pycnn.adam_step(param, contiguous(grad, op, "grad"), m, v, t, rate, *betas, epsilon, decay)


def sgd_step(
    param: Array,
    grad: npt.ArrayLike,
    velocity: Array | None,
    *,
    lr: float,
    momentum: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
) -> None:
    """One step of gradient descent in place on param and velocity, as PyTorch's SGD.

        g = grad + weight_decay * param
        velocity = momentum * velocity + g
        param -= lr * (g + momentum * velocity if nesterov else velocity)

    velocity: of param's shape, or None without momentum (then the step is g). Raises ValueError for
    shapes, shared memory or options that do not fit, TypeError for types.
    """
    op = "sgd_step"
    rate, inertia, decay = _finite(op, lr=lr, momentum=momentum, weight_decay=weight_decay)
    check_updated(op, param=param)
    if velocity is not None:
        check_updated(op, velocity=velocity)
    elif inertia != 0.0 or nesterov:
        raise ValueError(
            f"{op}: velocity is None; expected an array of param's shape with momentum."
        )
    _pycnn.sgd_step(
        param, contiguous(grad, op, "grad"), velocity, rate, inertia, bool(nesterov), decay
    )


def rmsprop_step(
    param: Array,
    grad: npt.ArrayLike,
    square: Array,
    buffer: Array | None,
    *,
    lr: float,
    alpha: float = 0.99,
    eps: float = 1e-8,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
) -> None:
    """One step of RMSprop in place on param, square and buffer, as PyTorch's (not centred).

        g = grad + weight_decay * param
        square = alpha * square + (1 - alpha) * g**2
        buffer = momentum * buffer + g / (sqrt(square) + eps)
        param -= lr * buffer

    Tieleman & Hinton 2012, "Neural networks for machine learning", lecture 6.5. buffer: of param's
    shape, or None without momentum. Raises ValueError for shapes, shared memory or options that do
    not fit, TypeError for types.
    """
    op = "rmsprop_step"
    check_updated(op, param=param, square=square)
    rate, epsilon, inertia, decay = _finite(
        op, lr=lr, eps=eps, momentum=momentum, weight_decay=weight_decay
    )
    share = number(alpha)
    if not 0.0 <= share < 1.0:
        raise ValueError(f"{op}: alpha is {alpha!r}; expected 0 or more and less than 1.")
    if buffer is not None:
        check_updated(op, buffer=buffer)
    elif inertia != 0.0:
        raise ValueError(f"{op}: buffer is None; expected an array of param's shape with momentum.")
    _pycnn.rmsprop_step(
        param, contiguous(grad, op, "grad"), square, buffer, rate, share, epsilon, inertia, decay
    )


def adam_all(
    roles: Roles,
    weight_decay: list[float],
    *,
    step: int,
    lr: float,
    betas: tuple[float, float],
    eps: float,
) -> bool:
    """`adam_step` of all parameters, or False, with nothing changed, if an array does not fit."""
    return _pycnn.adam_all(roles, weight_decay, step, lr, *betas, eps)


def sgd_all(
    roles: Roles, weight_decay: list[float], *, lr: float, momentum: float, nesterov: bool
) -> bool:
    """`sgd_step` of all parameters, or False, with nothing changed, if an array does not fit."""
    return _pycnn.sgd_all(roles, weight_decay, lr, momentum, nesterov)


def rmsprop_all(
    roles: Roles,
    weight_decay: list[float],
    *,
    lr: float,
    alpha: float,
    eps: float,
    momentum: float,
) -> bool:
    """`rmsprop_step` of all parameters, or False, with nothing changed, if one does not fit."""
    return _pycnn.rmsprop_all(roles, weight_decay, lr, alpha, eps, momentum)


def square_sum(arrays: list[Any]) -> float:
    """The sum of all squares, in float64 and in an order that depends on the sizes alone."""
    return _pycnn.square_sum(arrays)


def scale_all(arrays: list[Any], factor: float) -> None:
    """Multiply all arrays by `factor`, in place."""
    _pycnn.scale_all(arrays, factor)

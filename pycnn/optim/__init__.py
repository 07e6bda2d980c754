"""Optimizers: they turn gradients into steps, in place.

A step of training is `optimizer.zero_grad()`, `model.backward(dlogits, input_gradient=False)`,
`optimizer.step()`, perhaps with `clip_grad_norm(model.parameters(), 1.0)` before the last. One call
of C++ updates all parameters, in one pass over their memory. Weight decay acts on parameters whose
`decays` is True: the weights of Conv2d and Linear, no biases, nothing of BatchNorm2d.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from pycnn import ops
from pycnn._runtime.checks import is_finite
from pycnn.layers import Parameter
from pycnn.ops import optim
from pycnn.ops.arrays import kind_of
from pycnn.optim.base import Array, Optimizer

__all__ = ["SGD", "Adam", "AdamW", "Optimizer", "RMSprop", "clip_grad_norm"]


class Adam(Optimizer):
    """Adam, algorithm 1 of Kingma & Ba 2015.

    With t counting the steps from 1, g the gradient, m and v zero at first:

        m <- b1 * m + (1 - b1) * g             m_hat = m / (1 - b1^t)
        v <- b2 * v + (1 - b2) * g^2           v_hat = v / (1 - b2^t)
        param <- param - lr * m_hat / (sqrt(v_hat) + eps)

    lr: above 0. betas = (b1, b2): each in [0, 1). eps: above 0.

    TensorFlow 1's AdamOptimizer, the lecture's, computes lr_t = lr * sqrt(1 - b2^t) / (1 - b1^t)
    and param - lr_t * m / (sqrt(v) + eps): its eps is the paper's "epsilon hat" (end of section 2);
    here eps stands beside the corrected sqrt(v_hat). The two agree if epsilon hat is
    eps * sqrt(1 - b2^t): TensorFlow's 1e-8 acts like 3.2e-7 in the first step.
    """

    _arguments: tuple[str, ...] = ("betas", "eps")

    def __init__(
        self,
        parameters: Iterable[Parameter],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        """Zero moments m and v."""
        super().__init__(parameters, lr)
        right = isinstance(betas, (tuple, list)) and len(betas) == 2
        right = right and all(is_finite(b) and 0 <= b < 1 for b in betas)
        self._expect("betas", betas, right, "two numbers, at least 0 and below 1")
        self._expect("eps", eps, is_finite(eps) and eps > 0, "a finite number above 0")
        self.betas = float(betas[0]), float(betas[1])
        self.eps = float(eps)
        self._m = self._moment("m")
        self._v = self._moment("v")

    def _update(self, i: int, t: int, param: Array, grad: Array) -> None:
        b1, b2 = self.betas
        ops.adam_step(
            param,
            grad,
            self._m[i],
            self._v[i],
            step=t,
            lr=self.lr,
            beta1=b1,
            beta2=b2,
            eps=self.eps,
            weight_decay=self._decay_of(i),
        )

    def _update_all(self, t: int, roles: list[list[Any]]) -> bool:
        if type(self)._update is not Adam._update:  # a subclass has its own formula
            return False
        return optim.adam_all(
            roles, self._decays(), step=t, lr=self.lr, betas=self.betas, eps=self.eps
        )


class AdamW(Adam):
    """Adam with decoupled weight decay, Loshchilov & Hutter 2019.

    Before the step of `Adam`, and outside of m and v:

        param <- param - lr * weight_decay * param

    weight_decay: not negative; it acts on parameters with `decays`. The rest as in `Adam`.
    """

    _arguments: tuple[str, ...] = ("betas", "eps", "weight_decay")

    def __init__(
        self,
        parameters: Iterable[Parameter],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ) -> None:
        """As in `Adam`, and the decay."""
        super().__init__(parameters, lr, betas, eps)
        right = is_finite(weight_decay) and weight_decay >= 0
        self._expect("weight_decay", weight_decay, right, "a finite number, not negative")
        self.weight_decay = float(weight_decay)


class SGD(Optimizer):
    """Stochastic gradient descent with momentum, as torch.optim.SGD.

    With g the gradient, u zero at first:

        g <- g + weight_decay * param                (of parameters with `decays`)
        u <- momentum * u + g
        param <- param - lr * u                      (nesterov: param - lr * (g + momentum * u))

    lr: above 0. momentum: in [0, 1); without it u is g and takes no memory. nesterov: needs a
    momentum. weight_decay: not negative.
    """

    _arguments: tuple[str, ...] = ("momentum", "nesterov", "weight_decay")

    def __init__(
        self,
        parameters: Iterable[Parameter],
        lr: float,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        """Zero velocities, if there is momentum."""
        super().__init__(parameters, lr)
        right = is_finite(momentum) and 0 <= momentum < 1
        self._expect("momentum", momentum, right, "a number, at least 0 and below 1")
        right = is_finite(weight_decay) and weight_decay >= 0
        self._expect("weight_decay", weight_decay, right, "a finite number, not negative")
        if nesterov and momentum == 0:
            self._refuse("nesterov=True with momentum 0; expected a momentum, for example 0.9.")
        self.momentum = float(momentum)
        self.nesterov = bool(nesterov)
        self.weight_decay = float(weight_decay)
        self._u = self._moment("u") if momentum > 0 else None

    def _update(self, i: int, t: int, param: Array, grad: Array) -> None:
        ops.sgd_step(
            param,
            grad,
            None if self._u is None else self._u[i],
            lr=self.lr,
            momentum=self.momentum,
            nesterov=self.nesterov,
            weight_decay=self._decay_of(i),
        )

    def _update_all(self, t: int, roles: list[list[Any]]) -> bool:
        if type(self)._update is not SGD._update:
            return False
        return optim.sgd_all(
            roles, self._decays(), lr=self.lr, momentum=self.momentum, nesterov=self.nesterov
        )


class RMSprop(Optimizer):
    """RMSprop, Tieleman & Hinton 2012 (lecture 6.5), as torch.optim.RMSprop with centered=False.

    With g the gradient, s and b zero at first:

        g <- g + weight_decay * param                (of parameters with `decays`)
        s <- alpha * s + (1 - alpha) * g^2
        b <- momentum * b + g / (sqrt(s) + eps)
        param <- param - lr * b

    lr: above 0. alpha: in [0, 1). eps: above 0. momentum: in [0, 1); without it b takes no memory.
    weight_decay: not negative.
    """

    _arguments: tuple[str, ...] = ("alpha", "eps", "momentum", "weight_decay")

    def __init__(
        self,
        parameters: Iterable[Parameter],
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
    ) -> None:
        """Zero moments s, and b, if there is momentum."""
        super().__init__(parameters, lr)
        for name, value in (("alpha", alpha), ("momentum", momentum)):
            right = is_finite(value) and 0 <= value < 1
            self._expect(name, value, right, "a number, at least 0 and below 1")
        self._expect("eps", eps, is_finite(eps) and eps > 0, "a finite number above 0")
        right = is_finite(weight_decay) and weight_decay >= 0
        self._expect("weight_decay", weight_decay, right, "a finite number, not negative")
        self.alpha, self.eps, self.momentum = float(alpha), float(eps), float(momentum)
        self.weight_decay = float(weight_decay)
        self._s = self._moment("s")
        self._b = self._moment("b") if momentum > 0 else None

    def _update(self, i: int, t: int, param: Array, grad: Array) -> None:
        ops.rmsprop_step(
            param,
            grad,
            self._s[i],
            None if self._b is None else self._b[i],
            lr=self.lr,
            alpha=self.alpha,
            eps=self.eps,
            momentum=self.momentum,
            weight_decay=self._decay_of(i),
        )

    def _update_all(self, t: int, roles: list[list[Any]]) -> bool:
        if type(self)._update is not RMSprop._update:
            return False
        options = {"lr": self.lr, "alpha": self.alpha, "eps": self.eps, "momentum": self.momentum}
        return optim.rmsprop_all(roles, self._decays(), **options)


def clip_grad_norm(parameters: Iterable[Parameter], max_norm: float) -> float:
    """Scale all gradients so that their common norm is at most `max_norm`; as PyTorch.

        norm = sqrt(sum over all gradients of g^2)
        g <- g * min(1, max_norm / (norm + 1e-6))

    parameters: as `model.parameters()` gives them, after backward. max_norm: finite and above 0.
    Returns the norm before. It is added in float64, in an order that depends on the shapes alone. A
    norm that is not finite leaves the gradients alone: look at what is returned. Pascanu, Mikolov &
    Bengio 2013, "On the difficulty of training recurrent neural networks". Raises ValueError for no
    parameters or another max_norm, TypeError for no Parameter or mixed types, RuntimeError if a
    gradient is empty; then nothing has changed.
    """
    who = "clip_grad_norm"
    all_parameters = list(parameters)
    for parameter in all_parameters:
        if not isinstance(parameter, Parameter):
            raise TypeError(
                f"{who}: a parameter is {kind_of(parameter)}; expected layers.Parameter: "
                "write model.parameters()."
            )
    if not all_parameters:
        raise ValueError(f"{who}: no parameters; expected at least one: write model.parameters().")
    if not (is_finite(max_norm) and max_norm > 0):
        raise ValueError(f"{who}: max_norm is {max_norm!r}; expected a finite number above 0.")
    gradients = [parameter.grad for parameter in all_parameters]
    empty = [parameter.name for parameter in all_parameters if parameter.grad is None]
    if empty:
        raise RuntimeError(
            f"{who}: no gradient of {', '.join(empty)}: call model.backward(dy) after zero_grad() "
            "and before clip_grad_norm()."
        )
    norm = math.sqrt(optim.square_sum(gradients))
    factor = max_norm / (norm + 1e-6)
    if factor < 1 and math.isfinite(norm):
        optim.scale_all(gradients, factor)
    return norm

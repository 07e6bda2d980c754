"""Optimizers: they turn gradients into steps, in place.

A step of training is `optimizer.zero_grad()`, `model.backward(dlogits, input_gradient=False)`,
`optimizer.step()`, perhaps with `clip_grad_norm(model.parameters(), 1.0)` before the last. One call
of C++ updates all parameters, in one pass over their memory. Weight decay acts on parameters whose
`decays` is True: the weights of Conv2d and Linear, no biases, nothing of BatchNorm2d.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from typing import Any

import _pycnn
import numpy as np
import numpy.typing as npt

from pycnn import ops
from pycnn.layers import Parameter, state

Array = npt.NDArray[Any]


class Optimizer:
    """What all optimizers share: parameters, learning rate, step count, and moments.

    parameters: as `model.parameters()` gives them. lr: the learning rate, finite and above 0; it
    may be changed between steps (a schedule), then also to 0. `step_count`: the steps taken.

    To write an optimizer, call `_moment` for each running mean and define `_update`.
    """

    weight_decay = 0.0

    def __init__(self, parameters: Iterable[Parameter], lr: float) -> None:
        """Raises ValueError for no parameters, one that comes twice, or a bad lr."""
        self.parameters = list(parameters)
        for parameter in self.parameters:
            if not isinstance(parameter, Parameter):
                self._refuse(
                    f"a parameter is a {type(parameter).__name__}; expected layers.Parameter: "
                    "write model.parameters().",
                    TypeError,
                )
        if not self.parameters:
            self._refuse("no parameters; expected at least one: write model.parameters().")
        if len({id(parameter) for parameter in self.parameters}) < len(self.parameters):
            names = [parameter.name for parameter in self.parameters]
            self._refuse(f"a parameter comes twice; expected each once, got {', '.join(names)}.")
        self._expect("lr", lr, _is_real(lr) and lr > 0, "a finite number above 0")
        self.lr = lr
        self.step_count = 0
        self._moments: dict[str, list[Array]] = {}

    @property
    def lr(self) -> float:
        """The learning rate."""
        return self._lr

    @lr.setter
    def lr(self, value: float) -> None:
        self._expect("lr", value, _is_real(value) and value >= 0, "a finite number, not negative")
        self._lr = float(value)

    def step(self) -> None:
        """Change all parameters by their gradients.

        All or nothing: every parameter is checked before the first one changes. Raises RuntimeError
        if a gradient is empty; TypeError or ValueError if the data, the gradient or a moment of a
        parameter has another type or shape than the data had when the optimizer was made, cannot be
        changed in place, or shares memory with another of them. Then nothing has changed.
        """
        empty = [parameter.name for parameter in self.parameters if parameter.grad is None]
        if empty:
            self._refuse(
                f"step() without a gradient of {', '.join(empty)}: call model.backward(dy) after "
                "zero_grad() and before step().",
                RuntimeError,
            )
        t = self.step_count + 1
        roles = [
            [parameter.data for parameter in self.parameters],
            [parameter.grad for parameter in self.parameters],
            *self._moments.values(),
        ]
        if not self._update_all(t, roles):
            for i, parameter in enumerate(self.parameters):
                self._check_arrays(i, parameter)
            for i, parameter in enumerate(self.parameters):
                assert parameter.grad is not None
                self._update(i, t, parameter.data, parameter.grad)
        self.step_count = t

    def zero_grad(self) -> None:
        """Mark all gradients as empty; the next backward overwrites them."""
        for parameter in self.parameters:
            parameter.zero_grad()

    def state_dict(self) -> dict[str, Array]:
        """Copies of the step count, "step", and the moments, for example "m.0" of parameter 0.

        lr and the other arguments are not in it: they belong to the constructor.
        """
        step = np.array(self.step_count, np.int64)
        return {"step": step, **{name: m.copy() for name, m in self._named_moments().items()}}

    def load_state_dict(self, d: Mapping[str, Array]) -> None:
        """Go on from `state_dict()` of an optimizer of the same kind for the same parameters.

        Raises ValueError that tells all that is missing, unexpected or of another shape or type;
        then nothing has changed.
        """
        step = np.array(self.step_count, np.int64)
        targets = {"step": step, **self._named_moments()}
        state.load(f"{type(self).__name__}.load_state_dict", targets, d, not_negative=["step"])
        self.step_count = int(step)

    def _update(self, i: int, t: int, param: Array, grad: Array) -> None:
        """Make step t, counted from 1, of parameter i, in place."""
        raise NotImplementedError(f"{type(self).__name__} must define _update.")

    def _update_all(self, t: int, roles: list[list[Any]]) -> bool:
        """Make step t of all parameters in one call, or change nothing and return False.

        roles: the data of all parameters, their gradients, and their moments. False where an array
        does not fit, and for optimizers that only define `_update`.
        """
        return False

    def _decay_of(self, i: int) -> float:
        """The weight decay of parameter i."""
        return self.weight_decay if self.parameters[i].decays else 0.0

    def _decays(self) -> list[float]:
        decay = self.weight_decay
        return [decay if parameter.decays else 0.0 for parameter in self.parameters]

    def _check_arrays(self, i: int, parameter: Parameter) -> None:
        """Refuse what would stop the update of parameter i, when others have changed already."""
        assert parameter.grad is not None
        arrays = {"data": parameter.data, "grad": parameter.grad}
        arrays.update((f"moment {name}", moments[i]) for name, moments in self._moments.items())
        like = parameter.data
        for name, array in arrays.items():
            what = f"step(): {name} of {parameter.name}"
            if array.dtype != like.dtype or array.shape != like.shape:
                self._refuse(
                    f"{what} is {array.dtype} of shape {array.shape}; expected {like.dtype} of "
                    f"shape {like.shape}, as its data: after a change of the data's type or shape, "
                    "make a new optimizer and call model.backward(dy).",
                    TypeError if array.dtype != like.dtype else ValueError,
                )
            flags = array.flags
            if not (flags.writeable and flags.c_contiguous and flags.aligned):
                self._refuse(
                    f"{what} is read-only, or has gaps; expected an array to change in place: "
                    "assign a copy of it."
                )
        for (one, a), (other, b) in itertools.combinations(arrays.items(), 2):
            if np.may_share_memory(a, b):
                self._refuse(
                    f"step(): {one} and {other} of {parameter.name} share memory; expected arrays "
                    "of their own: assign a copy."
                )

    def _moment(self, name: str) -> list[Array]:
        """Zeros beside each parameter, saved under this name."""
        self._moments[name] = [np.zeros_like(parameter.data) for parameter in self.parameters]
        return self._moments[name]

    def _named_moments(self) -> dict[str, Array]:
        return {
            f"{name}.{i}": array
            for name, arrays in self._moments.items()
            for i, array in enumerate(arrays)
        }

    def _expect(self, name: str, value: object, right: bool, expected: str) -> None:
        if not right:
            self._refuse(f"{name} is {value!r}; expected {expected}.")

    def _refuse(self, message: str, error: type[Exception] = ValueError) -> None:
        raise error(f"{type(self).__name__}: {message}")


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
        right = right and all(_is_real(b) and 0 <= b < 1 for b in betas)
        self._expect("betas", betas, right, "two numbers, at least 0 and below 1")
        self._expect("eps", eps, _is_real(eps) and eps > 0, "a finite number above 0")
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
        return _pycnn.adam_all(roles, self._decays(), t, self.lr, *self.betas, self.eps)


class AdamW(Adam):
    """Adam with decoupled weight decay, Loshchilov & Hutter 2019.

    Before the step of `Adam`, and outside of m and v:

        param <- param - lr * weight_decay * param

    weight_decay: not negative; it acts on parameters with `decays`. The rest as in `Adam`.
    """

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
        right = _is_real(weight_decay) and weight_decay >= 0
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
        right = _is_real(momentum) and 0 <= momentum < 1
        self._expect("momentum", momentum, right, "a number, at least 0 and below 1")
        right = _is_real(weight_decay) and weight_decay >= 0
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
        return _pycnn.sgd_all(roles, self._decays(), self.lr, self.momentum, self.nesterov)


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
            right = _is_real(value) and 0 <= value < 1
            self._expect(name, value, right, "a number, at least 0 and below 1")
        self._expect("eps", eps, _is_real(eps) and eps > 0, "a finite number above 0")
        right = _is_real(weight_decay) and weight_decay >= 0
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
        return _pycnn.rmsprop_all(
            roles, self._decays(), self.lr, self.alpha, self.eps, self.momentum
        )


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
                f"{who}: a parameter is a {type(parameter).__name__}; expected layers.Parameter: "
                "write model.parameters()."
            )
    if not all_parameters:
        raise ValueError(f"{who}: no parameters; expected at least one: write model.parameters().")
    if not (_is_real(max_norm) and max_norm > 0):
        raise ValueError(f"{who}: max_norm is {max_norm!r}; expected a finite number above 0.")
    gradients = [parameter.grad for parameter in all_parameters]
    empty = [parameter.name for parameter in all_parameters if parameter.grad is None]
    if empty:
        raise RuntimeError(
            f"{who}: no gradient of {', '.join(empty)}: call model.backward(dy) after zero_grad() "
            "and before clip_grad_norm()."
        )
    norm = math.sqrt(_pycnn.square_sum(gradients))  # type: ignore[arg-type]
    factor = max_norm / (norm + 1e-6)
    if factor < 1 and math.isfinite(norm):
        _pycnn.scale_all(gradients, factor)  # type: ignore[arg-type]
    return norm


def _is_real(value: object) -> bool:
    real = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    return real and math.isfinite(value)  # type: ignore[arg-type]

"""What all optimizers share; `pycnn.optim` is the public face."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from pycnn._runtime.checks import is_finite
from pycnn.layers import Parameter, state
from pycnn.ops.arrays import kind_of

Array = npt.NDArray[Any]


class Optimizer:
    """What all optimizers share: parameters, learning rate, step count, and moments.

    parameters: as `model.parameters()` gives them. lr: the learning rate, finite and above 0; it
    may be changed between steps (a schedule), then also to 0. `step_count`: the steps taken.

    To write an optimizer, call `_moment` for each running mean and define `_update`.
    """

    weight_decay = 0.0
    _arguments: tuple[str, ...] = ()  # of the constructor besides lr, attributes as well

    def __init__(self, parameters: Iterable[Parameter], lr: float) -> None:
        """Raises ValueError for no parameters, one that comes twice, or a bad lr."""
        self.parameters = list(parameters)
        for parameter in self.parameters:
            if not isinstance(parameter, Parameter):
                self._refuse(
                    f"a parameter is {kind_of(parameter)}; expected layers.Parameter: "
                    "write model.parameters().",
                    TypeError,
                )
        if not self.parameters:
            self._refuse("no parameters; expected at least one: write model.parameters().")
        if len({id(parameter) for parameter in self.parameters}) < len(self.parameters):
            names = [parameter.name for parameter in self.parameters]
            self._refuse(f"a parameter comes twice; expected each once, got {', '.join(names)}.")
        self._expect("lr", lr, is_finite(lr) and lr > 0, "a finite number above 0")
        self.lr = lr
        self.step_count = 0
        self._moments: dict[str, list[Array]] = {}

    @property
    def lr(self) -> float:
        """The learning rate."""
        return self._lr

    @lr.setter
    def lr(self, value: float) -> None:
        self._expect("lr", value, is_finite(value) and value >= 0, "a finite number, not negative")
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
        roles: list[list[Any]] = [
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

    def settings(self) -> dict[str, Any]:
        """The arguments of the constructor besides lr, JSON-able: a resumed run has the same."""
        return {name: getattr(self, name) for name in self._arguments}

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

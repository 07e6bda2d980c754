"""The memory of a network between forward and backward, and the loops over the steps of a plan."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from pycnn.graph.plan import Gradients, Place, Plan, is_view
from pycnn.graph.values import renamed
from pycnn.ops import prepared
from pycnn.ops.arrays import Array, aligned_empty

MOST_BOUND = 8  # (plan, batch size) pairs whose arrays are kept; arrays are views of the arena
# Overwrite every block with NaN at the moment from which the plan calls it dead: for tests.
POISON = False

Watch = Callable[[int], None]


class Bound:
    """The steps of a plan on the arrays of one batch size.

    forward: (function, arguments) of each step; None in the place of the arguments where an array
    is the user's, which is another one in each call: then `arguments` fills the template.
    """

    def __init__(self, plan: Plan, N: int, arena: Array) -> None:
        """Cut the arena."""
        self.plan, self.N, self._arena = plan, N, arena
        self._users: dict[tuple[str, int], Array] = {}
        self._arrays: dict[Any, Array] = {}
        self.kept = [
            tuple(self.array(k) if isinstance(k, Place) else np.empty(*k) for k in kept)
            for kept in plan.kept
        ]
        self.forward: list[tuple[Callable[..., Any], Any, Any]] = []
        for i, step in enumerate(plan.steps):
            if is_view(step):
                continue
            places = [plan.values[id(v)] for v in (*step.inputs, *step.outputs)]
            x, y = places[: len(step.inputs)], places[len(step.inputs) :]
            template = (_one(x), _one(y), *self.kept[i])
            self.forward.append((step.operation.compute, self._fixed(template), (i, template)))
        self._backward: dict[bool, list[Any]] = {}

    def backward(self, input_gradient: bool) -> list[Any]:
        """(gradients, function, arguments or None, template) of each step, in order."""
        if input_gradient not in self._backward:
            self._backward[input_gradient] = [
                (g, *self._back(g)) for g in self.plan.backward[input_gradient]
            ]
        return self._backward[input_gradient]

    def _back(self, g: Gradients) -> tuple[Any, Any, Any]:
        step = self.plan.steps[g.index]
        reads = step.operation.reads
        values = self.plan.values
        x = tuple(values[id(v)] for v in step.inputs) if "x" in reads else ()
        y = tuple(values[id(v)] for v in step.outputs) if "y" in reads else ()
        template = (_one(g.dy), _one(g.dx), _one(x) if x else None, _one(y) if y else None)
        return step.operation.gradients, self._fixed(template), template

    def _fixed(self, template: Any) -> Any:
        return self.arguments(template) if _only_arena(template) else None

    def arguments(self, template: Any) -> Any:
        """The template with arrays in the place of places."""
        if isinstance(template, Place):
            return self.array(template)
        if isinstance(template, tuple):
            return tuple(map(self.arguments, template))
        return template

    def array(self, place: Place) -> Array:
        """The array of a place: of the arena, or the user's in the shape of the place."""
        if place.where == "arena":
            cut = place.index, place.shape, place.dtype  # in place: the same array object
            found = self._arrays.get(cut)
            if found is None:
                found = self._arrays[cut] = self._cut(place)
            return found
        key = place.where, place.index
        if key not in self._users:
            self._users[key] = aligned_empty((self.N, *place.shape), place.dtype)
        array = self._users[key]
        shape = (self.N, *place.shape)
        return array if array.shape == shape else array.reshape(shape)

    def _cut(self, place: Place) -> Array:
        shape = (self.N, *place.shape)
        start = self.plan.blocks[place.index].offset * self.N
        nbytes = int(np.prod(shape)) * place.dtype.itemsize
        return self._arena[start : start + nbytes].view(place.dtype).reshape(shape)

    def give(self, where: str, arrays: tuple[Array, ...]) -> None:
        """The user's arrays for the next steps."""
        self._users.update({(where, j): array for j, array in enumerate(arrays)})

    def take(self, place: Place) -> Array:
        """A result for the user: his array, or a copy of one in the arena."""
        array = self.array(place)
        if place.where != "arena":
            return array
        fresh = aligned_empty(array.shape, array.dtype)
        np.copyto(fresh, array)
        return fresh

    def forget_users(self) -> None:
        """Let go of the user's arrays."""
        self._users.clear()

    def poison(self, moment: int) -> None:
        """Fill what dies at this moment with NaN; see POISON."""
        for block in self.plan.blocks:
            if block.last == moment:
                start = block.offset * self.N
                self._arena[start : start + block.size * self.N] = 255


class Run:
    """One arena that grows to the largest batch, and what one forward leaves for its backward."""

    def __init__(self) -> None:
        """No memory yet."""
        self._arena: Array = np.empty(0, np.uint8)
        self._bound: dict[tuple[int, int], Bound] = {}
        self._saved: list[Any] = []
        self._last: Bound | None = None

    def bind(self, plan: Plan, N: int) -> Bound:
        """The plan on this run's memory, for N images."""
        key = id(plan), N  # a Bound holds its plan, so the id stays taken
        bound = self._bound.get(key)
        if bound is None:
            if plan.bytes * N > self._arena.size:
                self._bound.clear()
                self._last = None
                self._arena = np.empty(0, np.uint8)  # first let go of the old memory
                self._arena = aligned_empty((plan.bytes * N,), np.uint8)
            elif len(self._bound) >= MOST_BOUND:
                self._bound.pop(next(iter(self._bound)))
            bound = self._bound[key] = Bound(plan, N, self._arena)
        return bound

    def forward(self, plan: Plan, xs: tuple[Array, ...], keep: bool) -> tuple[Array, ...]:
        """The outputs, in new memory; keep: whether backward follows."""
        bound = self.bind(plan, len(xs[0]))
        if POISON:
            self._arena[...] = 255
        bound.forget_users()
        bound.give("x", xs)
        saved: list[Any] = []
        try:
            for function, arguments, (i, template) in bound.forward:
                if arguments is None:
                    arguments = bound.arguments(template)
                saved.append(function(*arguments))
                if POISON:
                    bound.poison(i)
            ys = self._results(bound)
        except Exception as error:
            bound.forget_users()
            told = self._told(error, plan, len(saved))
            if told is None:
                raise
            raise told from None
        if keep:
            self._saved, self._last = saved, bound
        else:
            bound.forget_users()
        return ys

    @staticmethod
    def _told(error: Exception, plan: Plan, done: int) -> Exception | None:
        """The error in the name of the step that raised it, if a layer has refused something."""
        steps = [step for step in plan.steps if not is_view(step)]
        return renamed(error, steps[done].label) if done < len(steps) else None

    @staticmethod
    def _results(bound: Bound) -> tuple[Array, ...]:
        places = [bound.plan.values[id(y)] for y in bound.plan.program.outputs]
        ys: list[Array] = []
        for number, place in enumerate(places):
            y = bound.take(place)
            before = [(p.where, p.index) for p in places[:number] if p.where != "arena"]
            ys.append(y.copy() if (place.where, place.index) in before else y)
        return tuple(ys)

    def backward(self, dys: tuple[Array, ...], input_gradient: bool) -> tuple[Array, ...] | None:
        """Add to the parameters' gradients; the inputs' gradients, in new memory, if wanted."""
        bound, saved = self._last, self._saved
        assert bound is not None
        self._last, self._saved = None, []
        bound.give("dy", dys)
        plan = bound.plan
        ran = [i for _, _, (i, _) in bound.forward]
        saved_of = dict(zip(ran, saved, strict=True))
        try:
            for j, place, adds in plan.output_gradients:
                target = bound.array(place)
                _put(target, dys[j].reshape(target.shape), adds)
            for g, function, arguments, template in bound.backward(input_gradient):
                self._step_back(bound, g, function, arguments, template, saved_of)
                if POISON:
                    bound.poison(2 * len(plan.steps) - 1 - g.index)
            return self._input_gradients(bound) if input_gradient else None
        finally:
            bound.forget_users()

    def timed(
        self,
        plan: Plan,
        xs: tuple[Array, ...],
        dys: tuple[Array, ...],
        clock: Callable[[], float],
    ) -> tuple[dict[int, float], dict[int, float]]:
        """The seconds of each step, by its number, forward and backward without dx of the inputs.

        Views take none: they are not in the second dict.
        """
        bound = self.bind(plan, len(xs[0]))
        bound.forget_users()
        bound.give("x", xs)
        saved: dict[int, Any] = {}
        forward, backward = dict.fromkeys(range(len(plan.steps)), 0.0), {}
        for function, arguments, (i, template) in bound.forward:
            began = clock()
            if arguments is None:
                arguments = bound.arguments(template)
            saved[i] = function(*arguments)
            forward[i] = clock() - began
        bound.give("dy", dys)
        for j, place, adds in plan.output_gradients:
            _put(bound.array(place), dys[j].reshape(bound.array(place).shape), adds)
        for g, function, arguments, template in bound.backward(False):
            began = clock()
            self._step_back(bound, g, function, arguments, template, saved)
            backward[g.index] = clock() - began
        bound.forget_users()
        return forward, backward

    @staticmethod
    def _step_back(
        bound: Bound, g: Gradients, function: Any, arguments: Any, template: Any, saved: Any
    ) -> None:
        for source, target, adds in g.copies:
            to = bound.array(target)
            _put(to, bound.array(source).reshape(to.shape), adds)
        if not g.dx:
            return  # a view
        for place in g.zeros:
            bound.array(place).fill(0)
        if arguments is None:
            arguments = bound.arguments(template)
        kept = saved[g.index]
        function(*arguments, bound.kept[g.index] if kept is None else kept)
        for part, total in zip(g.dx, g.adds, strict=True):
            if total is not None and part is not None:
                prepared.accumulate(bound.array(total), bound.array(part))

    @staticmethod
    def _input_gradients(bound: Bound) -> tuple[Array, ...]:
        plan = bound.plan
        dxs = []
        for x in plan.program.inputs:
            array = bound.array(plan.gradients[id(x)])
            if not plan.parts[id(x)]:
                array.fill(0)  # nothing reads this input
            dxs.append(array)
        return tuple(dxs)


def _put(target: Array, part: Array, adds: bool) -> None:
    if adds:
        prepared.accumulate(target, np.ascontiguousarray(part))
    else:
        np.copyto(target, part)


def _one(places: Any) -> Any:
    """The place itself where there is one, else a tuple of them."""
    return places[0] if len(places) == 1 else tuple(places)


def _only_arena(template: Any) -> bool:
    if isinstance(template, Place):
        return template.where == "arena"
    return all(map(_only_arena, template)) if isinstance(template, tuple) else True

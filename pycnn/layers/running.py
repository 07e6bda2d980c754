"""The rules of running a network: right arrays, one backward a forward, plans made when needed."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import numpy as np

from pycnn.graph import fuse, plan
from pycnn.graph.plan import Plan
from pycnn.graph.program import Program, columns, trace
from pycnn.graph.run import Run
from pycnn.graph.values import Shape
from pycnn.ops.arrays import Array, kind_of, to_write

if TYPE_CHECKING:
    from pycnn.layers.base import Layer

FLOATING = (np.dtype(np.float32), np.dtype(np.float64))
EVAL = "backward in eval mode: call train() and then forward(x) before backward(dy)."


class Changes:
    """Counts what could make a plan wrong: any change of a layer that a plan was made with."""

    count = 0  # of all changes
    structure = 0  # of those other than between training and eval mode

    def note(self, layer: object, name: str) -> None:
        """The attribute `name` of a planned layer was assigned."""
        if name == "training":
            self.count += 1
        elif not isinstance(getattr(type(layer), name, None), property):
            self.changed()

    def changed(self) -> None:
        """All plans are to be made anew."""
        self.count += 1
        self.structure += 1


changes = Changes()


class Entry(NamedTuple):
    """A plan, and what it depends on beside the counted changes."""

    plan: Plan
    lists: list[tuple[Any, Any]]  # lists and dicts of layers, with what they held
    unused: list[Any]  # parameters that no node has
    eval_label: str  # of the first layer that is in eval mode, or ""


class Pending(NamedTuple):
    """A forward in training mode that waits for its backward."""

    run: Run
    entry: Entry
    thread: int
    shapes: tuple[Shape, ...]


class Runner:
    """Runs one layer or module, the root, for its user.

    Each forward takes an idle `Run` or makes one; in training mode it keeps it until its backward,
    so in eval mode several threads may run at once.
    """

    def __init__(self, root: Layer, fusing: bool = True) -> None:
        """No plans, no memory, no forward to go back from; fusing: whether patterns are used."""
        self._root, self._fusing = root, fusing
        self._lock = threading.Lock()
        self._idle: list[Run] = []
        self._pending: Pending | None = None
        self._reason = "backward came before forward: call forward(x) first"
        self._current: dict[Any, tuple[int, Entry]] = {}  # by types and shapes: count of changes
        self._entries: dict[Any, Entry] = {}  # by types, shapes and modes
        self._structure = -1
        self.last_shapes: tuple[Shape, ...] | None = None  # of the last inputs, N = 1

    # ---- forward and backward ----------------------------------------------------------------

    def forward(self, xs: tuple[Any, ...]) -> Any:
        """What `Layer.forward` does with arrays."""
        if self._root.training:
            return self._forward_training(xs)
        entry = self._entry(xs)
        xs = _contiguous(xs)
        self._forget("its last forward ran in eval mode, which keeps nothing: "
                     "call forward(x) again in training mode")  # fmt: skip
        run = self._take()
        try:
            return _one(run.forward(entry.plan, xs, keep=False))
        finally:
            self._idle.append(run)

    def infer(self, *xs: Any) -> Any:
        """Forward in eval mode, whatever the mode of the root."""
        if not self._root.training:
            return self.forward(xs)
        root = self._root
        modes = [(layer, layer.training) for _, layer in root.named_layers()]
        root.eval()
        try:
            return self.forward(xs)
        finally:
            for layer, training in modes:
                layer.training = training

    def _forward_training(self, xs: tuple[Any, ...]) -> Any:
        self._enter()
        try:
            entry = self._entry(xs)
            xs = _contiguous(xs)
            self._forget("its last forward failed: call forward(x) again")
            run = self._take()
            try:
                ys = run.forward(entry.plan, xs, keep=True)
            except BaseException:
                self._idle.append(run)
                raise
            shapes = tuple(y.shape for y in ys)
            self._pending = Pending(run, entry, threading.get_ident(), shapes)
            return _one(ys)
        finally:
            self._lock.release()

    def backward(self, dys: tuple[Any, ...], input_gradient: bool) -> Any:
        """What `Layer.backward` does."""
        self._enter()
        try:
            pending = self._ready()
            self._check_gradients(dys, pending)
            self._pending = None
            self._reason = "backward already ran for the last forward: call forward(x) again first"
            try:
                dxs = pending.run.backward(_contiguous(dys), bool(input_gradient))
            finally:
                self._idle.append(pending.run)
            for parameter in pending.entry.unused:
                parameter.no_gradient()
            return None if dxs is None else _one(dxs)
        finally:
            self._lock.release()

    def _take(self) -> Run:
        try:
            return self._idle.pop()
        except IndexError:
            return Run()

    def _forget(self, reason: str) -> None:
        pending, self._pending = self._pending, None
        self._reason = reason
        if pending is not None:
            self._idle.append(pending.run)

    def _enter(self) -> None:
        if not self._lock.acquire(blocking=False):
            self._root.refuse(
                "it is running in another call, perhaps of another thread; a layer in training "
                "mode works for one thread at a time: give each thread its own "
                "copy.deepcopy(model), or call eval() first.",
                RuntimeError,
            )

    def _ready(self) -> Pending:
        """The forward to go back from, or a RuntimeError that says why there is none."""
        if not self._root.training:
            self._root.refuse(EVAL, RuntimeError)
        if self._pending is None:
            self._root.refuse(f"{self._reason}.", RuntimeError)
        if self._pending.thread != threading.get_ident():
            self._root.refuse(
                "its last forward ran in another thread, so this gradient may belong to another "
                "x: call forward(x) and backward(dy) in one thread.",
                RuntimeError,
            )
        if self._pending.entry.eval_label:
            raise RuntimeError(f"{self._pending.entry.eval_label}: {EVAL}")
        return self._pending

    def _check_gradients(self, dys: tuple[Any, ...], pending: Pending) -> None:
        if len(dys) != len(pending.shapes):
            self._root.refuse(
                f"backward with {len(dys)} gradients; expected {len(pending.shapes)}, one for each "
                "output.",
                TypeError,
            )
        for i, (dy, shape) in enumerate(zip(dys, pending.shapes, strict=True)):
            name = "dy" if len(dys) == 1 else f"dy {i}"
            self._check_type(dy, name, pending.entry.plan.dtype, "the last y")
            if dy.shape != shape:
                self._root.refuse(f"{name} has shape {dy.shape}; expected {shape}, as the last y.")

    # ---- plans -------------------------------------------------------------------------------

    def _entry(self, xs: tuple[Any, ...]) -> Entry:
        """The plan for these arrays; tracing the network where there is none yet."""
        try:
            key = tuple([(x.shape[1:], x.dtype.char) for x in xs])
            count, entry = self._current[key]
            if count == changes.count and _unchanged(entry.lists) and _one_batch(xs):
                return entry
        except (AttributeError, KeyError):
            pass
        return self._find_entry(xs)

    def _find_entry(self, xs: tuple[Any, ...]) -> Entry:
        self._check_inputs(xs)
        root = self._root
        if self._structure != changes.structure or not all(
            _unchanged(entry.lists) for entry in self._entries.values()
        ):
            self._structure = changes.structure
            self._entries.clear()
            self._current.clear()
        key = tuple([(x.shape[1:], x.dtype.char) for x in xs])
        modes = tuple([layer.training for _, layer in root.named_layers()])
        entry = self._entries.get((key, modes))
        if entry is None:
            entry = self._new_entry([x.shape for x in xs], xs[0].dtype)
            self._structure = changes.structure
            self._entries[key, modes] = entry
        self._current[key] = changes.count, entry
        self.last_shapes = tuple((1, *x.shape[1:]) for x in xs)
        return entry

    def _new_entry(self, shapes: Sequence[Shape], dtype: np.dtype[Any]) -> Entry:
        root = self._root
        program = self.program(shapes)
        self._check_parameters(program, dtype)
        fusing = self._fusing and getattr(root, "_fusing", True) and dtype == np.float32
        made = Plan(program, dtype, "training" if root.training else "eval", fusing)
        used = {id(p) for layer in made.layers() for _, p in layer.named_parameters()}
        unused = [p for _, p in root.named_parameters() if id(p) not in used]
        lists = []
        for _, layer in root.named_layers():
            object.__setattr__(layer, "_planned", True)
            lists += [(v, v.copy()) for v in vars(layer).values() if isinstance(v, (list, dict))]
        in_eval = (node.label for node in program.nodes if not node.operation.training)
        return Entry(made, lists, unused, next(in_eval, "") if root.training else "")

    def plan_for(self, xs: tuple[Any, ...]) -> Plan:
        """The plan that forward would run for these arrays."""
        return self._entry(xs).plan

    def program(self, shapes: Sequence[Shape | None]) -> Program:
        """What the root does with inputs of these shapes, N included."""
        names = {id(layer): path for path, layer in self._root.named_layers()}
        return trace(self._root, names, shapes)

    def plan_text(self, shapes: Sequence[Shape | None]) -> str:
        """The text of `Layer.plan`."""
        root = self._root
        if shapes == [None]:
            known = getattr(root, "input_shape", None)
            if known is not None:
                self.program([(1, *known)])  # refuses in the name of the layer
        program = self.program(shapes)
        mode = "training" if root.training else "eval"
        fusing = getattr(root, "_fusing", True)
        steps = fuse.fused(program, mode) if fusing else fuse.plain(program)
        return columns(plan.text(steps))

    # ---- sentences ---------------------------------------------------------------------------

    def _check_inputs(self, xs: tuple[Any, ...]) -> None:
        if not xs:
            self._root.refuse("forward without an array; expected x.", TypeError)
        for i, x in enumerate(xs):
            name = "x" if len(xs) == 1 else f"x {i}"
            expected, of = (xs[0].dtype, "the first x") if i else (None, "")
            if isinstance(x, np.ndarray) and x.dtype == np.uint8 and self._is_double():
                expected, of = np.dtype(np.float64), "its parameters"
            self._check_type(x, name, expected, of)
            if x.ndim == 0:
                self._root.refuse(f"{name} is a single number; expected an array [N, ...].")
            if len(x) != len(xs[0]):
                self._root.refuse(
                    f"{name} has {len(x)} images, the first x {len(xs[0])}; expected the same "
                    "N in all."
                )

    def _check_parameters(self, program: Program, dtype: np.dtype[Any]) -> None:
        for node in program.nodes:
            for _, parameter in node.operation.named_parameters():
                if parameter.data.dtype != dtype:
                    expected = parameter.data.dtype
                    raise TypeError(
                        f"{node.label}: x is {dtype}; expected {expected}, the type of its "
                        f"parameters: write x.astype(np.{expected})."
                    )

    def _check_type(self, a: Any, name: str, expected: np.dtype[Any] | None, of: str) -> None:
        if not isinstance(a, np.ndarray):
            self._refuse_type(f"{name} is {kind_of(a)}; expected a NumPy array{to_write(a, name)}")
        if a.dtype == np.uint8 and name == "x" and expected is None:
            self._refuse_type(
                "x is uint8; expected float32 in 0 .. 1: write model.predict(x), "
                "x.astype(np.float32) / 255, or ops.gather_images(images, indices)."
            )
        if expected is None and a.dtype not in FLOATING:
            pixels = ", or for pixels of 0 to 255 x.astype(np.float32) / 255"
            self._refuse_type(
                f"{name} is {a.dtype}; expected float32 or float64: write "
                f"{name}.astype(np.float32){pixels if name == 'x' else ''}."
            )
        if expected is not None and a.dtype != expected:
            self._refuse_type(
                f"{name} is {a.dtype}; expected {expected}, the type of {of}: "
                f"write {name}.astype(np.{expected})."
            )

    def _is_double(self) -> bool:
        first = next(self._root.named_parameters(), None)
        return first is not None and first[1].data.dtype == np.float64

    def _refuse_type(self, message: str) -> NoReturn:
        self._root.refuse(message, TypeError)


def _unchanged(lists: list[tuple[Any, Any]]) -> bool:
    return all(now == then for now, then in lists)


def _one_batch(xs: tuple[Array, ...]) -> bool:
    return len(xs) == 1 or len({len(x) for x in xs}) == 1


def _contiguous(arrays: tuple[Array, ...]) -> tuple[Array, ...]:
    return tuple([a if _usable(a.flags) else np.array(a, order="C") for a in arrays])


def _usable(flags: Any) -> bool:
    return bool(flags.c_contiguous and flags.aligned)


def _one(arrays: tuple[Any, ...]) -> Any:
    return arrays[0] if len(arrays) == 1 else arrays

"""`check_layer`: whether a layer of your own keeps the promises that networks rely on."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np

from pycnn._formats import description
from pycnn.layers import Layer, Sequential
from pycnn.ops.arrays import Array

STEP = 1e-5  # of the central differences, in float64
SLOPES = 100  # elements of each array whose slope is measured


def check_layer(layer: Layer, *input_shape: tuple[int | None, ...], seed: int = 0) -> None:
    """Try a layer as a network uses it; AssertionError with a sentence for the first fault.

    input_shape: of x, for example (2, 6, 5, 3), or one for each input; N = None is 2. Choose
    extents that differ. Inputs are normal numbers, drawn from `seed`.

    Checked are: the shape of y against `infer_shape`; that compute and gradients write every number
    of `out` and `dx` and none of their inputs, in place as well where the layer says that it can;
    that gradients reads only what `reads` names; all gradients against central differences in
    float64 (a layer that draws is tried with one mask); the same bits in every call, in parts of a
    batch (in eval mode), in copies, compiled, and saved and loaded.

    The layer itself is not changed. Layers with kinks are right if no input lies near one.
    """
    shapes = [(2 if s[0] is None else s[0], *s[1:]) for s in input_shape]
    rng = np.random.default_rng(seed)
    xs = [rng.standard_normal([int(n or 0) for n in shape]) for shape in shapes]
    single = [x.astype(np.float32) for x in xs]
    _check_shapes(layer, single)
    for training in (True, False):
        _check_compute(copy.deepcopy(layer).train(training), single)
    _check_gradients(layer, xs, rng)
    _check_copies(layer, single)
    _check_file(layer, single)


def _fail(layer: Layer, message: str) -> NoReturn:
    raise AssertionError(f"check_layer: {type(layer).__name__}: {message}")


def _same(layer: Layer, found: Any, expected: Any, what: str) -> None:
    for a, b in zip(_several(found), _several(expected), strict=True):
        if a.shape != b.shape or a.dtype != b.dtype or not np.array_equal(a, b, equal_nan=True):
            _fail(layer, f"{what} gave other numbers than a plain call.")


def _several(arrays: Any) -> tuple[Any, ...]:
    return arrays if isinstance(arrays, tuple) else (arrays,)


def _one(arrays: Any) -> Any:
    return arrays[0] if len(arrays) == 1 else tuple(arrays)


def _check_shapes(layer: Layer, xs: list[Array]) -> None:
    before = [x.copy() for x in xs]
    ys = _several(copy.deepcopy(layer).forward(*xs))
    _check_unchanged(layer, xs, before)
    told = layer.output_shape(*((None, *x.shape[1:]) for x in xs))
    told = told if isinstance(told[0], tuple) else (told,)
    if [(None, *y.shape[1:]) for y in ys] != list(told) or any(len(y) != len(xs[0]) for y in ys):
        _fail(layer, f"infer_shape gave {told}; y has the shapes {[y.shape for y in ys]}.")
    for y in ys:
        if not np.isfinite(y).all():
            _fail(layer, "y is not finite for normal numbers: compute leaves parts of out.")


def _check_unchanged(layer: Layer, xs: list[Array], before: list[Array]) -> None:
    if not all(map(np.array_equal, xs, before)):
        _fail(layer, "compute wrote to x.")


def _kept(layer: Layer, xs: list[Array]) -> list[Array]:
    """The arrays of `keeps`, full of what must be overwritten."""
    asked = layer.keeps(_one([x.shape for x in xs]))
    shapes = [[len(xs[0]) if n is None else n for n in shape] for shape, _ in asked]
    kinds = [np.dtype(dtype or xs[0].dtype) for _, dtype in asked]
    return [_poison(np.empty(s, k)) for s, k in zip(shapes, kinds, strict=True)]


def _poison(array: Array) -> Array:
    array.view(np.uint8).reshape(-1)[...] = 255  # NaN, or the largest whole number
    return array


def _check_compute(layer: Layer, xs: list[Array]) -> None:
    """Every number of out is written, x is not, also in place."""
    if layer.is_view():
        return
    expected = _several(copy.deepcopy(layer).forward(*xs))
    before = [x.copy() for x in xs]
    twin, ys = copy.deepcopy(layer), [_poison(np.empty_like(y)) for y in expected]
    twin.compute(_one(xs), _one(ys), *_kept(layer, xs))
    _same(layer, tuple(ys), expected, "compute with NaN in out")
    _check_unchanged(layer, xs, before)
    for k in layer.in_place:
        if k < len(xs) and xs[k].shape == expected[0].shape:
            twin, given = copy.deepcopy(layer), [x.copy() for x in xs]
            twin.compute(_one(given), given[k], *_kept(layer, xs))
            _same(layer, given[k], expected[0], f"compute in place of input {k} (in_place)")


def _check_gradients(layer: Layer, xs: list[Array], rng: np.random.Generator) -> None:
    """Against central differences; and into arrays full of NaN."""
    double = copy.deepcopy(layer).train().astype(np.float64)
    runs = copy.deepcopy(double)
    dys = [rng.standard_normal(y.shape) for y in _several(runs.forward(*xs))]
    try:
        dxs = _several(runs.backward(*(dy.copy() for dy in dys)))
    except (TypeError, AttributeError) as error:
        _fail(layer, f"gradients failed with reads = {layer.reads!r}: {error}.")

    def loss() -> float:
        ys = _several(copy.deepcopy(double).forward(*xs))
        return float(sum(np.sum(y * dy) for y, dy in zip(ys, dys, strict=True)))

    for k, (x, dx) in enumerate(zip(xs, dxs, strict=True)):
        _compare(layer, f"dx of input {k}" if len(xs) > 1 else "dx", dx, x, loss, rng)
    for (name, ours), (_, other) in zip(
        runs.named_parameters(), double.named_parameters(), strict=True
    ):
        _compare(layer, f"the gradient of {name}", ours.grad, other.data, loss, rng)
    if not layer.is_view():
        _check_gradients_alone(double, xs, dys, dxs)


def _compare(
    layer: Layer,
    name: str,
    gradient: Array | None,
    array: Array,
    loss: Callable[[], float],
    rng: np.random.Generator,
) -> None:
    if gradient is None or gradient.shape != array.shape:
        found = None if gradient is None else gradient.shape
        _fail(layer, f"{name} has the shape {found}; expected {array.shape}.")
    flat, scale = array.reshape(-1), max(1.0, abs(loss()))
    for i in rng.permutation(flat.size)[:SLOPES]:
        value = flat[i]
        flat[i] = value + STEP
        above = loss()
        flat[i] = value - STEP
        below = loss()
        flat[i] = value
        slope = (above - below) / (2 * STEP)
        # rounding: eps * |loss| / STEP; truncation of smooth functions: some STEP**2
        if abs(slope - gradient.reshape(-1)[i]) > 1e-6 * (scale + abs(slope)):
            _fail(
                layer,
                f"{name} is {gradient.reshape(-1)[i]:.9g} at element {i}; the slope of the loss "
                f"is {slope:.9g}.",
            )


def _check_gradients_alone(
    layer: Layer, xs: list[Array], dys: list[Array], expected: tuple[Array, ...]
) -> None:
    """Called as a plan does: without what `reads` does not name, dx full of NaN, in place."""
    for k in (None, layer.gradient_in_place):
        twin, kept = copy.deepcopy(layer), _kept(layer, xs)
        given = [dy.copy() for dy in dys]
        ys = [_poison(np.empty_like(dy)) for dy in dys]
        saved = twin.compute(_one(xs), _one(ys), *kept)
        dxs = [_poison(np.empty_like(x)) for x in xs]
        if k is not None and dxs[k].shape == given[0].shape:
            dxs[k] = given[0]
        x = _one(xs) if "x" in layer.reads else None
        y = _one(ys) if "y" in layer.reads else None
        twin.gradients(_one(given), _one(dxs), x, y, tuple(kept) if saved is None else saved)
        how = "gradients with NaN in dx" if k is None else f"gradients in place of dx {k}"
        _same(layer, tuple(dxs), expected, how)
        if k is None and not all(map(np.array_equal, given, dys)):
            _fail(layer, "gradients wrote to dy, which is the user's.")


def _check_copies(layer: Layer, xs: list[Array]) -> None:
    expected = copy.deepcopy(layer).eval().forward(*xs)
    twin = copy.deepcopy(layer).eval()
    _same(layer, twin.forward(*xs), expected, "a second call")
    _same(layer, twin.forward(*xs), expected, "a third call")
    for i in range(len(xs[0])):
        part = tuple(y[i : i + 1] for y in _several(expected))
        _same(layer, twin.forward(*(x[i : i + 1] for x in xs)), part, f"image {i} by itself")
    compiled = layer.compile_inference(*((None, *x.shape[1:]) for x in xs))
    for a, b in zip(_several(compiled(*xs)), _several(expected), strict=True):
        if not np.allclose(a, b, rtol=1e-5, atol=1e-5):
            _fail(layer, "the compiled layer gave other numbers than eval mode.")


def _check_file(layer: Layer, xs: list[Array]) -> None:
    """As `save_model` and `load_model` do it; the kind is known here without `register`."""
    name = type(layer).__name__
    before = description.registered.get(name)  # perhaps another class of that name
    description.registered[name] = description.arguments_of(type(layer))
    try:
        if layer.results > 1 or len(xs) > 1:
            return  # no chain; files of networks hold it by the same description
        twin = description.build(description.describe(Sequential(copy.deepcopy(layer))))
    except (AttributeError, TypeError, ValueError) as error:
        _fail(layer, f"it cannot be saved and loaded: {error}")
    finally:
        del description.registered[name]
        if before is not None:
            description.registered[name] = before
    twin.load_state_dict({f"0.{key}": value for key, value in layer.state_dict().items()})
    expected = copy.deepcopy(layer).eval().forward(*xs)
    _same(layer, twin.eval().forward(*xs), expected, "the saved and loaded layer")

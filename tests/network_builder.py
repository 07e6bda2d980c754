"""Builds a `_pycnn.Network` beside a float64 reference of the same steps."""

import math

import _pycnn
import numpy as np
import reference

from pycnn.ops.activations import NONE, parse, relu_if
from pycnn.ops.conv2d import conv2d_shape
from pycnn.ops.pool2d import pool2d_shape


class Built:
    """Values that never share memory, unless `at` says so; the shape of one image for each.

    Each step is given once: `step(name, y, shape_of_y, reference, *arguments)` adds it to the
    program, and `reference(values)` computes it in float64 from all values so far.
    """

    def __init__(self, input_shapes):
        self.shapes, self.places = list(input_shapes), [-1] * len(input_shapes)
        self.inputs = list(range(len(input_shapes)))
        self.steps, self.references, self.free = [], [], 0

    def value(self, shape, at=None):
        """A new value of this shape, in memory of its own or where value `at` lies."""
        place = self.free if at is None else self.places[at]
        if at is None:
            self.free += -(-math.prod(shape) // 16) * 16
        self.shapes.append(tuple(shape))
        self.places.append(place)
        return len(self.shapes) - 1

    def step(self, name, y, compute, *arguments):
        self.steps.append((f"add_{name}", arguments))
        self.references.append((y, compute))
        return y

    def conv2d(
        self, x, weight, bias, *, relu=False, activation=None, pool="none", residual=-1, at=None,
        **geometry,
    ):  # fmt: skip
        activation = "relu" if relu else activation
        geometry = {"stride": 1, "padding": "same", "dilation": 1, "groups": 1, **geometry}
        shape = conv2d_shape("test", (1, *self.shapes[x]), weight.shape, **geometry)
        out = shape.output_shape[1:]
        if pool != "none":
            out = (*((n + (pool == "same")) // 2 for n in out[:2]), out[2])
        y = self.value(out, at)

        def compute(values):
            z = reference.conv2d(values[x], weight, bias, **geometry)
            if residual >= 0:
                z = z + values[residual]
            z = reference.activated(z, activation)
            return z if pool == "none" else reference.max_pool2d(z, 2, padding=pool)[0]

        function = parse(activation, "test")
        return self.step("conv2d", y, compute, x, y, shape, weight, bias, function, pool, residual)

    def pool(self, kind, x, size, at=None, **options):
        options = {"stride": None, "padding": "valid", **options}
        count = options.pop("count_include_pad", False)
        shape = pool2d_shape("test", (1, *self.shapes[x]), size, **options)
        y = self.value(shape.output_shape[1:], at)
        if kind == "max":
            return self.step(
                "max_pool2d",
                y,
                lambda values: reference.max_pool2d(values[x], size, **options)[0],
                x,
                y,
                shape,
            )
        return self.step(
            "avg_pool2d",
            y,
            lambda values: reference.avg_pool2d(
                values[x], size, **options, count_include_pad=count
            ),
            x,
            y,
            shape,
            count,
        )

    def batch_norm(self, x, vectors, eps=1e-3, *, relu=False, residual=-1, at=None):
        y = self.value(self.shapes[x], at)

        def compute(values):
            z = reference.batch_norm_inference(values[x], *vectors, eps=eps)
            z = z + values[residual] if residual >= 0 else z
            return np.maximum(z, 0) if relu else z

        return self.step("batch_norm", y, compute, x, y, *vectors, eps, relu_if(relu), residual)

    def linear(self, x, weight, bias, relu=False, activation=None):
        activation = "relu" if relu else activation
        y = self.value((weight.shape[1],))

        def compute(values):
            z = values[x].reshape(len(values[x]), -1) @ np.float64(weight)
            z = z if bias is None else z + bias
            return reference.activated(z, activation)

        return self.step("linear", y, compute, x, y, weight, bias, parse(activation, "test"))

    def elementwise(self, name, operands, compute, *options, at=None):
        y = self.value(self.shapes[operands[0]], at)
        if name in ("add", "subtract", "multiply", "divide"):
            name, options = "combine", (name, *[self.shapes[y]] * 3, *(options or (NONE,)))
        return self.step(
            name, y, lambda values: compute(*(values[i] for i in operands)), *operands, y, *options
        )

    def concat(self, xs):
        channels = [self.shapes[x][-1] for x in xs]
        y = self.value((*self.shapes[xs[0]][:-1], sum(channels)))
        return self.step(
            "concat", y, lambda v: np.concatenate([v[x] for x in xs], axis=-1), xs, y, channels
        )

    def network(self, outputs, chunk=1000):
        """The outputs' places become the caller's."""
        places = [-1 if i in outputs else place for i, place in enumerate(self.places)]
        net = _pycnn.Network(
            [math.prod(shape) for shape in self.shapes], places, self.inputs, outputs, chunk
        )
        for name, arguments in self.steps:
            getattr(net, name)(*arguments)
        return lambda *arrays: net.run(
            list(arrays), [(len(arrays[0]), *self.shapes[i]) for i in outputs]
        )

    def expected(self, outputs, *arrays):
        values = {i: np.float64(array) for i, array in enumerate(arrays)}
        for y, compute in self.references:
            values[y] = compute(values)
        return [values[i] for i in outputs]

"""Networks that branch: residuals, concatenation, shared layers, several inputs and outputs."""

import itertools

import numpy as np
import pytest

from pycnn import layers
from pycnn.layers import (
    BatchNorm2d,
    Conv2d,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    Linear,
    MaxPool2d,
    Module,
    ReLU,
    Sequential,
)


class Repeat(layers.Layer):
    """[N, H, W, C] -> [N, 2 H, 2 W, C]: each pixel four times. A layer of the tests' own."""

    reads = ""

    def infer_shape(self, x):
        N, H, W, C = x
        return N, 2 * H, 2 * W, C

    def compute(self, x, out):
        out[...] = x.repeat(2, axis=1).repeat(2, axis=2)

    def gradients(self, dy, dx, x, y, saved):
        if dx is not None:
            N, H, W, C = dx.shape
            np.sum(dy.reshape(N, H, 2, W, 2, C), axis=(2, 4), out=dx)


class Basic(Module):
    """A residual block: the first one of a stage has a convolution in its shortcut."""

    def __init__(self, C, OC, stride, rng, norm=True):
        super().__init__()
        self.conv1 = Conv2d(C, OC, 3, stride, padding=1, bias=not norm, rng=rng)
        self.norm1 = BatchNorm2d(OC) if norm else None
        self.conv2 = Conv2d(OC, OC, 3, padding=1, bias=not norm, rng=rng)
        self.norm2 = BatchNorm2d(OC) if norm else None
        self.shortcut = None
        if stride != 1 or C != OC:
            parts = [Conv2d(C, OC, 1, stride, bias=not norm, rng=rng)]
            self.shortcut = Sequential(*parts, *([BatchNorm2d(OC)] if norm else []))

    def forward(self, x):
        y = self.conv1(x)
        y = layers.relu(self.norm1(y) if self.norm1 else y)
        y = self.conv2(y)
        y = self.norm2(y) if self.norm2 else y
        return layers.relu(y + (self.shortcut(x) if self.shortcut else x))


class Residual(Module):
    """[N, H, W, 3] -> [N, 4] through blocks in a plain list."""

    def __init__(self, norm=True, widths=(6, 6, 8), rng=0):
        super().__init__()
        rng = np.random.default_rng(rng)
        self.stem = Conv2d(3, widths[0], 3, padding="same", rng=rng)
        pairs = itertools.pairwise(widths)
        self.blocks = [Basic(a, b, 1 if a == b else 2, rng, norm) for a, b in pairs]
        self.head = Linear(widths[-1], 4, rng=rng)
        self.pool = GlobalAvgPool2d()

    def forward(self, x):
        x = layers.relu(self.stem(x))
        for block in self.blocks:
            x = block(x)
        return self.head(self.pool(x))


class UNet(Module):
    """[N, H, W, C] -> [N, H, W, K]: down, up, and the maps of one size side by side."""

    def __init__(self, C=2, K=3, width=4, rng=0):
        super().__init__()
        rng = np.random.default_rng(rng)
        self.down = Sequential(Conv2d(C, width, 3, padding=1, rng=rng), ReLU())
        self.pool = MaxPool2d(2)
        self.inside = Sequential(Conv2d(width, 2 * width, 3, padding=1, rng=rng), ReLU())
        self.up = Repeat()
        self.join = Sequential(Conv2d(3 * width, width, 3, padding=1, rng=rng), ReLU())
        self.last = Conv2d(width, K, 1, rng=rng)

    def forward(self, x):
        wide = self.down(x)
        deep = self.up(self.inside(self.pool(wide)))
        return self.last(self.join(layers.concat([wide, deep])))


class Twice(Module):
    """One layer called twice, one number beside it: weights are shared, gradients add."""

    def __init__(self, rng=0):
        super().__init__()
        self.conv = Conv2d(3, 3, 3, padding="same", rng=rng)
        self.norm = BatchNorm2d(3)

    def forward(self, x):
        y = layers.relu(self.norm(self.conv(x)))
        y = self.norm(self.conv(y))
        return 1 - 0.5 * (x * y) + y + y


class Many(Module):
    """Two inputs, three outputs; one output is used inside, one is an input."""

    def __init__(self, rng=0):
        super().__init__()
        rng = np.random.default_rng(rng)
        self.a, self.b = Linear(5, 4, rng=rng), Linear(3, 4, rng=rng)
        self.c = Linear(4, 2, rng=rng)
        self.unused = Linear(2, 2, rng=rng)

    def forward(self, x, z):
        y = self.a(x) + self.b(z)
        left, right = layers.split(y, [1, 3])
        return self.c(layers.relu(y)), layers.concat([right, left]) - y, z


class Ends(Module):
    """Views and results in place at the ends; a branch whose result nothing reads."""

    def __init__(self, rng=0):
        super().__init__()
        self.conv = Conv2d(2, 3, 3, padding=1, rng=rng)
        self.dropout = Dropout(0.3, rng=1)

    def forward(self, x):
        layers.relu(x)
        y = self.dropout(layers.relu(self.conv(x)))
        part, _ = layers.split(y, (1, 2))
        return layers.flatten(y), layers.flatten(part)


class Gates(Module):
    """Operands that repeat, on either side of each operator, of as few numbers as 1."""

    def __init__(self, rng=0):
        super().__init__()
        rng = np.random.default_rng(rng)
        self.conv = Conv2d(2, 3, 3, padding=1, rng=rng)
        self.mean, self.spread = layers.Mean((1, 2), keepdims=True), layers.Mean(-1, keepdims=True)
        self.inside = Linear(3, 3, rng=rng)
        self.affine, self.last = layers.ChannelAffine(3), layers.ChannelAffine(2)
        self.offset = layers.Combine("subtract", (4, 1, 3), reflected=True)
        self.ratio = layers.Combine("divide", (3, 1))
        self.head = Linear(3, 2, rng=rng)

    def forward(self, x):
        y = self.affine(self.conv(x))
        gate = self.inside(self.mean(y))  # [N, 1, 1, 3]
        one = self.spread(gate * gate)  # [N, 1, 1, 1]: as many lines of memory, fewer numbers
        gate = one - gate
        y = gate * y + y * gate
        pixel = self.spread(y)  # [N, 4, 3, 1]
        z = y / (pixel * pixel + 2) + pixel / (y * y + 1)
        z = self.ratio(self.offset(z) + 1 / (y * y + 2))
        rows = layers.relu(gate + self.spread(gate))
        return self.last(self.head(layers.relu(layers.relu(z) + rows)))


def functional(rng=0):
    """Keras' way: an inception block with a shared module."""
    rng = np.random.default_rng(rng)
    x = layers.Input((6, 4, 3))
    shared = Sequential(Conv2d(3, 3, 1, rng=rng), BatchNorm2d(3), ReLU())
    one = Conv2d(3, 4, 3, padding="same", rng=rng)(shared(x))
    two = MaxPool2d(2, padding="same")(layers.relu(one))
    y = layers.concat([one, shared(shared(x)), layers.relu(x) * x])
    y = Conv2d(10, 4, 3, 2, padding="same", rng=rng)(y)
    y = layers.relu(y + two)
    return layers.Graph(x, Linear(24, 3, rng=rng)(Flatten()(y)))


# name: (how to make it, shapes of the inputs)
NETWORKS = {
    "residual": (Residual, [(3, 6, 5, 3)]),
    "residual_without_norm": (lambda: Residual(norm=False), [(2, 5, 6, 3)]),
    "block": (lambda: Basic(3, 4, 1, np.random.default_rng(0)), [(3, 4, 5, 3)]),  # ends with relu
    "unet": (UNet, [(2, 6, 4, 2)]),
    "twice": (Twice, [(3, 4, 5, 3)]),
    "many": (Many, [(4, 5), (4, 3)]),
    "ends": (Ends, [(2, 4, 3, 2)]),
    "gates": (Gates, [(2, 4, 3, 2)]),
    "functional": (functional, [(3, 6, 4, 3)]),
}
every_network = pytest.mark.parametrize("name", NETWORKS)


def make(name, dtype=np.float32, seed=3):
    """(model, xs, dys)."""
    model = NETWORKS[name][0]().astype(dtype)
    rng = np.random.default_rng(seed)
    for _, parameter in model.named_parameters():  # no bias of zeros, no weight of ones
        parameter.data[...] += 0.1 * rng.standard_normal(parameter.data.shape).astype(dtype)
    xs = [rng.standard_normal(shape).astype(dtype) for shape in NETWORKS[name][1]]
    shapes = model.output_shape(*(x.shape for x in xs))
    shapes = shapes if isinstance(shapes[0], tuple) else (shapes,)
    return model, xs, [rng.standard_normal(shape).astype(dtype) for shape in shapes]


def all_of(result):
    """A result, or several, as a list."""
    return list(result) if isinstance(result, tuple) else [result]


def step(model, xs, dys):
    """[ys, dxs, gradients] of one training step, as a flat list of copies."""
    model.zero_grad()
    ys = [y.copy() for y in all_of(model.forward(*xs))]
    dxs = all_of(model.backward(*dys))
    return [*ys, *dxs, *(p.grad.copy() for p in model.parameters())]


def by_hand(model, xs, dys):
    """The same, node by node: each a copy of its layer by itself, gradients in a dict."""
    import copy

    program = model.program(*(x.shape for x in xs))
    known = dict(zip(map(id, program.inputs), xs, strict=True))
    names = {id(p): n for n, p in model.named_parameters()}
    ran = []
    for node in program.nodes:
        layer = copy.deepcopy(node.operation)
        ys = all_of(layer.forward(*(known[id(x)] for x in node.inputs)))
        known.update(zip(map(id, node.outputs), ys, strict=True))
        mine = [names[id(p)] for _, p in node.operation.named_parameters()]
        ran.append((node, layer, mine))
        for name in node.operation._buffer_names:  # a layer that runs twice goes on
            getattr(node.operation, name)[...] = getattr(layer, name)
        if node.operation.own_rng_state():
            node.operation.load_own_rng_state(layer.own_rng_state())
    total = {id(v): np.zeros_like(known[id(v)]) for v in program.values}
    weights = {n: np.zeros_like(p.data) for n, p in model.named_parameters()}
    for y, dy in zip(program.outputs, dys, strict=True):
        total[id(y)] += dy
    for node, layer, mine in reversed(ran):
        dxs = all_of(layer.backward(*(total[id(y)] for y in node.outputs)))
        for x, dx in zip(node.inputs, dxs, strict=True):
            total[id(x)] += dx
        for name, (_, parameter) in zip(mine, layer.named_parameters(), strict=True):
            weights[name] += parameter.grad
    ys = [known[id(y)] for y in program.outputs]
    return [*ys, *(total[id(x)] for x in program.inputs), *weights.values()]

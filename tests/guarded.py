"""Runs every operator on arrays that end where memory ends; `test_guard_pages.py` starts it.

    python tests/guarded.py ISA

Behind each array, inputs too, lies a page that may not be touched: a read or write past the end
kills the process, and the last line that it printed names the case. Bytes in front of an array hold
a pattern that is compared afterwards. Results start as NaN, so all of them must be written, and are
those of the same call on ordinary arrays, bit by bit.
"""

import ctypes
import faulthandler
import mmap
import sys

import _pycnn
import guarded_windows
import numpy as np

import pycnn
from pycnn import ops

PAGE, PATTERN = mmap.PAGESIZE, 0xA5
LIBC = ctypes.CDLL(None, use_errno=True)


class Memory:
    """Arrays between a pattern and a page that nobody may touch."""

    def __init__(self):
        self.fronts, self.maps = [], []

    def like(self, array):
        room = -(-(array.nbytes + 256) // PAGE) * PAGE
        area = mmap.mmap(-1, room + PAGE)
        everything = np.frombuffer(area, np.uint8)
        last = ctypes.c_void_p(everything.ctypes.data + room)
        assert LIBC.mprotect(last, ctypes.c_size_t(PAGE), 0) == 0, ctypes.get_errno()
        everything[: room - array.nbytes] = PATTERN
        self.fronts.append(everything[: room - array.nbytes])
        self.maps.append(area)
        guarded = everything[room - array.nbytes : room].view(array.dtype).reshape(array.shape)
        guarded[...] = array
        return guarded

    def check(self):
        for front in self.fronts:
            assert (front == PATTERN).all(), "written before the start of an array"


def unwritten(array):
    return np.full_like(array, np.nan if array.dtype.kind == "f" else 77)


def compare(call, inputs, updated=0):
    """`call(*inputs, out)` on ordinary arrays and on guarded ones; the first `updated` change."""
    plain = [np.array(array) for array in inputs]
    results = call(*plain, None)
    results = list(results) if isinstance(results, tuple) else [results]
    memory = Memory()
    guarded = [memory.like(array) for array in inputs]
    outs = [memory.like(unwritten(array)) for array in results] if not updated else []
    call(*guarded, tuple(outs) if len(outs) != 1 else outs[0])
    if updated:
        results, outs = plain[:updated], guarded[:updated]
    for got, expected in zip(outs, results, strict=True):
        np.testing.assert_array_equal(got, expected)
    for array, expected in zip(guarded[updated:], plain[updated:], strict=True):
        np.testing.assert_array_equal(array, expected)
    memory.check()


RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.standard_normal(shape, np.float32)


# name: x, kernel, OC, options. h and w differ in all; every way of direct convolution, every
# remainder of the tiles of pixels, channels and vectors.
CONVOLUTIONS = {
    "direct": ((2, 7, 9, 20), (3, 3), 37, {"padding": "same"}),
    "direct_strides": ((3, 8, 5, 17), (2, 3), 15, {"stride": (1, 2), "dilation": (2, 1)}),
    "direct_rim": ((1, 4, 5, 24), (3, 2), 33, {"padding": ((0, 3), (2, 1)), "dilation": (1, 2)}),
    "direct_one_tap": ((2, 5, 3, 18), (1, 1), 31, {}),
    "direct_groups": ((2, 6, 7, 20), (3, 3), 18, {"groups": 2, "padding": 1, "stride": (2, 1)}),
    "direct_collides": ((1, 3, 5, 1024), (3, 1), 17, {"padding": "same"}),
    "few_channels": ((2, 7, 19, 3), (3, 3), 17, {"padding": "same"}),
    "few_channels_one": ((2, 6, 9, 1), (3, 2), 7, {"padding": 1}),
    "few_channels_bare": ((2, 7, 9, 1), (2, 3), 5, {"stride": (1, 2)}),
    "few_channels_two_vecs": ((1, 5, 4, 4), (3, 3), 40, {"dilation": (2, 1)}),
    "rows_overlap": ((1, 6, 21, 8), (3, 2), 9, {"stride": (2, 1), "padding": ((1, 0), (0, 1))}),
    "depthwise": ((2, 7, 6, 19), (3, 3), 19, {"groups": 19, "padding": "same"}),
    "depthwise_5": ((1, 6, 9, 33), (5, 5), 33, {"groups": 33, "padding": 2}),
    "depthwise_stride": ((2, 7, 8, 17), (3, 3), 17, {"groups": 17, "padding": 1, "stride": 2}),
    "depthwise_rows": ((2, 7, 8, 17), (3, 2), 17, {"groups": 17, "dilation": (1, 2)}),
    "depthwise_staged": ((1, 3, 5, 512), (3, 3), 512, {"groups": 512, "padding": 1}),
    "grouped_ragged": (  # blocks of four groups, the last one of one
        *((2, 6, 7, 36), (3, 3), 36),
        {"groups": 9, "padding": 1, "algorithm": "grouped"},
    ),
    "naive_groups": ((1, 5, 6, 6), (3, 2), 9, {"groups": 3, "stride": (2, 1), "padding": 1}),
}


def convolutions(x_shape, kernel, OC, algorithm="auto", **options):
    options = {**options, "algorithm": algorithm}
    x = normal(*x_shape)
    weight, bias = normal(*kernel, x.shape[3] // options.get("groups", 1), OC), normal(OC)
    y = ops.conv2d(x, weight, **options)
    residual, dy = normal(*y.shape), normal(*y.shape)
    relu = {"activation": "relu", **options}
    compare(lambda *a: ops.conv2d(*a[:3], out=a[3], **relu), (x, weight, bias))
    compare(lambda *a: ops.conv2d(*a[:2], out=a[2], **options), (x, weight))
    compare(
        lambda x, weight, bias, residual, out: ops.conv2d(
            x, weight, bias, residual=residual, out=out, **relu
        ),
        (x, weight, bias, residual),
    )
    compare(
        lambda *a: ops.conv2d_backward_input(*a[:2], x_shape, out=a[2], **options), (dy, weight)
    )
    compare(
        lambda *a: ops.conv2d_backward_weight(*a[:2], weight.shape, out=a[2], **options), (x, dy)
    )


def pooled(x_shape, kernel, OC, **options):
    """conv_pool and its gradients; every map is cut differently by its windows."""
    algorithm = {"algorithm": options.pop("algorithm", "auto")}
    x, weight, bias = normal(*x_shape), normal(*kernel, x_shape[3], OC), normal(OC)
    forward = {**options, **algorithm, "return_where": True}
    y, where = ops.conv_pool(x, weight, bias, **forward)
    compare(lambda *a: ops.conv_pool(*a[:3], out=a[3], **forward), (x, weight, bias))
    compare(
        lambda *a: ops.conv_pool(*a[:2], out=a[2], **options, **algorithm, relu=False), (x, weight)
    )
    dy = normal(*y.shape)
    for relu in (True, False):
        for dx in (True, False):
            how = {**options, "relu": relu, "input_gradient": dx}

            def backward(*a, how=how, dx=dx):
                out = a[5] if dx or a[5] is None else (*a[5], None)
                result = ops.conv_pool_backward(*a[:5], out=out, **how)
                return tuple(result)[: 3 if dx else 2]

            compare(backward, (dy, y, where, x, weight))


POOLED = {
    **{
        f"winograd_{H}x{W}_{padding}": (
            (2, H, W, 20),
            (3, 3),
            OC,
            {"padding": "same", "pool_padding": padding, "algorithm": "winograd"},
        )
        for H, W, OC in ((9, 6, 17), (5, 7, 33), (6, 9, 48), (8, 5, 16), (7, 3, 31), (2, 5, 17))
        for padding in ("valid", "same")
    },
    "winograd_small": (
        (1, 3, 4, 16),
        (3, 3),
        18,
        {"algorithm": "winograd", "pool_padding": "same"},
    ),
    "few_channels": ((2, 7, 10, 3), (3, 3), 17, {"padding": "same", "pool_padding": "same"}),
    "few_channels_valid": ((2, 7, 5, 1), (2, 3), 35, {}),
    "one_channel_5": ((3, 9, 7, 1), (5, 4), 21, {"padding": "same", "pool_padding": "same"}),
    "chunks": ((2, 7, 5, 18), (2, 3), 19, {"padding": "same", "pool_padding": "same"}),
    "chunks_stride": ((2, 9, 8, 17), (3, 3), 18, {"stride": (1, 2), "dilation": (2, 1)}),
}


def elementwise():
    for shape in ((3, 19), (1, 1), (5, 47), (2, 64), (1, 33)):
        a, b, vector = normal(*shape), normal(*shape), normal(shape[-1])
        for name in ("add", "subtract", "multiply", "divide"):
            function = getattr(ops, name)
            for pair in ((a, b), (a, vector), (a[:, :1].copy(), b)):
                compare(lambda a, b, out, f=function: f(a, b, out=out), pair)
        for sums in ((1, shape[1]), (shape[0], 1)):
            compare(lambda a, out, to=sums: ops.sum_to(a, to, out=out), (a,))
            compare(lambda a, b, out, to=sums: ops.sum_to(a, to, other=b, out=out), (a, vector))
        for exponent in (2, -0.5, 1.7):
            compare(lambda a, out, p=exponent: ops.power(a, p, out=out), (np.abs(a),))
            compare(
                lambda a, b, out, p=exponent: ops.power_backward(a, b, p, out=out), (a, np.abs(b))
            )
        compare(lambda a, b, out: ops.add(a, b, activation="relu", out=out), (a, b))
        compare(lambda a, out: ops.relu(a, out=out), (a,))
        compare(lambda a, b, out: ops.relu_backward(a, b, out=out), (a, b))
        compare(lambda a, out: ops.affine(a, 2.5, -1, out=out), (a,))
        compare(lambda a, b, _: ops.accumulate(a, b) or a, (a, b), updated=1)
        compare(lambda a, b, _: ops.add_bias(a, b) or a, (a, vector), updated=1)
        compare(lambda a, out: ops.dropout(a, 0.3, seed=1, out=out), (a,))
        for name in ("softmax", "log_softmax"):
            compare(lambda a, out, name=name: getattr(ops, name)(a, out=out), (a,))
            compare(
                lambda a, b, out, name=name: getattr(ops, f"{name}_backward")(a, b, out=out), (a, b)
            )
        parts = [shape[-1] // 3, shape[-1] - shape[-1] // 3]
        compare(lambda a, out, parts=parts: tuple(ops.split(a, parts, out=out)), (a,))
        compare(lambda a, b, out: ops.concat([a, b], out=out), (a, b))
        compare(lambda a, out: ops.permute(a, (1, 0), out=out), (a,))
        compare(lambda a, out: ops.slice_axis(a, step=-2, out=out), (a,))
        compare(lambda a, out: ops.pad(a, ((2, 1),), out=out), (a,))
    for shape in ((1, 2, 3, 19), (2, 3, 1, 80), (1, 1, 2, 3)):
        x, how = normal(*shape), {"scale": (1.5, 2), "mode": "bilinear"}
        compare(lambda x, out: ops.dropout2d(x, 0.3, seed=1, out=out), (x,))
        dy = ops.resize(x, **how)
        compare(lambda x, out, how=how: ops.resize(x, out=out, **how), (x,))
        compare(
            lambda dy, out, shape=shape, how=how: ops.resize_backward(dy, shape, out=out, **how),
            (dy,),
        )


def optimizers():
    for size in (1, 16, 35, 70):
        arrays = normal(size), np.abs(normal(size)), np.abs(normal(size)), normal(size)
        compare(
            lambda p, m, v, g, _: ops.adam_step(p, g, m, v, step=3, lr=0.1) or p, arrays, updated=3
        )
        compare(
            lambda p, v, _, g, __: ops.sgd_step(p, g, v, lr=0.1, momentum=0.9) or p,
            arrays,
            updated=2,
        )
        compare(
            lambda p, s, b, g, _: ops.rmsprop_step(p, g, s, b, lr=0.1, momentum=0.9) or p,
            arrays,
            updated=3,
        )


def with_residual(dy, x, weight, bias, mean, var, y, out):
    """The results of batch_norm_backward, and the gradient of the residual behind them."""
    room = unwritten(x) if out is None else out[3]
    how = {"activation": "relu", "y": y, "residual_gradient": room}
    out = out if out is None else out[:3]
    return (*ops.batch_norm_backward(dy, x, weight, bias, mean, var, out=out, **how), room)


def norms():
    for shape in ((2, 3, 5, 17), (7, 4), (5, 1), (3, 32), (2, 4, 3, 33), (300, 8)):
        x, C = normal(*shape), shape[-1]
        weight, bias = normal(C), normal(C)
        for activation in (None, "relu"):
            how = {"activation": activation}
            compare(lambda *a, how=how: ops.batch_norm(*a[:3], out=a[3], **how), (x, weight, bias))
            _, mean, var = ops.batch_norm(x, weight, bias, **how)
            given = (x, weight, bias, mean, var)
            compare(lambda *a, how=how: ops.batch_norm_inference(*a[:5], out=a[5], **how), given)
            compare(
                lambda *a, how=how: tuple(ops.batch_norm_backward(*a[:6], out=a[6], **how)),
                (normal(*shape), *given),
            )
        y = np.maximum(normal(*shape), 0)  # with a residual, whose gradient is written as well
        compare(with_residual, (normal(*shape), *given, y))


def row_norms():
    for shape, groups in (((2, 3, 5, 18), 3), ((7, 4), 2), ((5, 1), 1), ((3, 33), 11)):
        x, dy, C = normal(*shape), normal(*shape), shape[-1]
        weight, bias = normal(C), normal(C)
        compare(lambda *a: ops.layer_norm(*a[:3], out=a[3]), (x, weight, bias))
        _, kept = ops.layer_norm(x, weight)
        compare(lambda *a: tuple(ops.layer_norm_backward(*a[:4], out=a[4])), (dy, x, weight, kept))
        compare(lambda *a, g=groups: ops.group_norm(*a[:3], g, out=a[3]), (x, weight, bias))
        _, kept = ops.group_norm(x, weight, bias, groups)
        compare(
            lambda *a, g=groups: tuple(ops.group_norm_backward(*a[:4], g, out=a[4])),
            (dy, x, weight, kept),
        )
        for size in (1, 4, 5):
            compare(lambda x, out, n=size: ops.local_response_norm(x, n, out=out), (x,))
            compare(
                lambda dy, x, out, n=size: ops.local_response_norm_backward(dy, x, n, out=out),
                (dy, x),
            )


def windows():
    guarded_windows.pools(compare, normal)
    guarded_windows.transposed(compare, normal)


def images():
    for shape in ((5, 7, 9, 1), (4, 5, 3, 3), (3, 6, 17, 1)):
        pixels, floats = np.uint8(RNG.integers(0, 256, shape)), normal(*shape)
        which = np.array([len(pixels) - 1, 0, len(pixels) - 1])
        for batch in (pixels, floats):
            for how in ({}, {"mean": 0.2, "std": 0.5}):
                compare(
                    lambda x, i, out, how=how: ops.gather_images(x, i, out=out, **how),
                    (batch, which),
                )
            moved = {"rotation": 20.0, "shift": 2.0, "elastic_alpha": 6.0, "elastic_sigma": 2.0}
            compare(
                lambda x, i, out, how=moved: ops.augment_images(
                    x, i, seed=1, epoch=2, erase=0.5, out=out, **how
                ),
                (batch, which),
            )
            compare(
                lambda x, i, out: ops.augment_images(
                    x, i, seed=1, epoch=2, crop=9, flip=0.5, contrast=0.5, out=out, mean=0.2
                ),
                (batch, which),
            )


def products():
    """Each shape with an operand in either order: packed, narrow, by dots, by one row."""
    for m, n, k in ((15, 33, 7), (3, 70, 520), (1, 150, 9), (37, 5, 130), (5, 1, 40), (70, 16, 3)):
        a, b = normal(m, k), normal(k, n)
        for turn_a in (False, True):
            for turn_b in (False, True):
                left = np.ascontiguousarray(a.T) if turn_a else a
                right = np.ascontiguousarray(b.T) if turn_b else b
                how = {"transpose_a": turn_a, "transpose_b": turn_b}
                compare(lambda a, b, out, how=how: ops.matmul(a, b, out=out, **how), (left, right))


def sums_of_squares():
    """Chunks of 4096: a whole one, and rests that end where memory ends."""
    for size in (1, 4095, 4096, 4101):
        x = normal(size)
        assert _pycnn.square_sum([Memory().like(x)]) == _pycnn.square_sum([x])


def chunks_of_images():
    """Images with so wide a rim that dweight takes them one by one: 64 MB each."""
    x, dy = (np.round(2 * normal(*shape)) for shape in ((3, 4, 5, 16), (3, 17, 17, 192)))
    how = {"stride": 64, "padding": 512}
    got = ops.conv2d_backward_weight(x, dy, (3, 3, 16, 192), algorithm="direct", **how)
    exact = ops.conv2d_backward_weight(x, dy, (3, 3, 16, 192), algorithm="im2col", **how)
    np.testing.assert_array_equal(got, exact)


def main(isa):
    faulthandler.enable()
    pycnn.use_isa(isa)
    for name, (x_shape, kernel, OC, options) in CONVOLUTIONS.items():
        print(f"conv2d {name}", flush=True)
        convolutions(x_shape, kernel, OC, **options)
    for algorithm, shape in (("winograd", (2, 5, 9, 17)), ("im2col", (2, 6, 5, 9))):
        print(f"conv2d {algorithm}", flush=True)
        convolutions(shape, (3, 3), 35, algorithm, padding="same")
    for precision in ("fast", "exact"):
        pycnn.set_precision(precision)
        for name, (x_shape, kernel, OC, options) in POOLED.items():
            if precision == "fast" or name.startswith("winograd"):
                print(f"conv_pool {name}, {precision}", flush=True)
                pooled(x_shape, kernel, OC, **options)
    parts = (
        elementwise,
        optimizers,
        sums_of_squares,
        norms,
        row_norms,
        windows,
        images,
        products,
    )
    for function in (*parts, chunks_of_images):
        print(function.__name__, flush=True)
        function()
    print("done", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])

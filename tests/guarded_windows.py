"""Pools and transposed convolutions for `guarded.py`."""

from pycnn import ops


def pools(compare, normal):
    for shape, kernel, options in (
        ((2, 7, 6, 17), (2, 3), {}),
        ((1, 5, 8, 3), (3, 2), {"stride": (1, 2), "padding": ((1, 0), (0, 1))}),
        ((2, 4, 7, 32), 2, {"padding": "same"}),
        ((1, 6, 5, 18), 2, {"stride": 3, "padding": 1, "dilation": (3, 2), "ceil_mode": True}),
    ):
        x = normal(*shape)
        y, indices = ops.max_pool2d(x, kernel, return_indices=True, **options)
        how = {**options, "kernel_size": kernel}
        compare(
            lambda x, out, how=how: ops.max_pool2d(x, return_indices=True, out=out, **how), (x,)
        )
        compare(lambda x, out, how=how: ops.avg_pool2d(x, out=out, **how), (x,))
        compare(
            lambda dy, where, out, shape=shape: ops.max_pool2d_backward(dy, where, shape, out=out),
            (y, indices),
        )
        compare(
            lambda dy, out, how=how, shape=shape: ops.avg_pool2d_backward(
                dy, shape, out=out, **how
            ),
            (y,),
        )

    x = normal(2, 7, 5, 18)
    for size in (1, (3, 2), (9, 4)):
        both = ops.adaptive_max_pool2d(x, size, return_indices=True)
        compare(
            lambda x, out, size=size: ops.adaptive_max_pool2d(
                x, size, return_indices=True, out=out
            ),
            (x,),
        )
        compare(lambda x, out, size=size: ops.adaptive_avg_pool2d(x, size, out=out), (x,))
        compare(
            lambda dy, out: ops.adaptive_avg_pool2d_backward(dy, (2, 7, 5, 18), out=out), both[:1]
        )


def transposed(compare, normal):
    for x_shape, weight, options in (
        ((2, 3, 5, 17), (2, 2, 9, 17), {"stride": 2}),
        ((1, 4, 3, 16), (4, 4, 3, 16), {"stride": 2, "padding": 1}),
        ((2, 3, 4, 6), (3, 2, 5, 6), {"dilation": (3, 2), "output_padding": (2, 1)}),
        ((2, 5, 4, 8), (3, 1, 4, 8), {"stride": (2, 3), "groups": 2}),
        ((1, 6, 7, 16), (3, 3, 17, 16), {"padding": 1}),
    ):
        x, w = normal(*x_shape), normal(*weight)
        b = normal(weight[2] * options.get("groups", 1))
        how = {**options, "activation": "silu"}
        y = ops.conv_transpose2d(x, w, b, **how)
        compare(
            lambda x, w, b, out, how=how: ops.conv_transpose2d(x, w, b, out=out, **how), (x, w, b)
        )
        compare(
            lambda dy, w, out, shape=x_shape, options=options: ops.conv_transpose2d_backward_input(
                dy, w, shape, out=out, **options
            ),
            (y, w),
        )
        compare(
            lambda x, dy, out, shape=weight, options=options: ops.conv_transpose2d_backward_weight(
                x, dy, shape, out=out, **options
            ),
            (x, y),
        )

"""Convolution, bias, relu and 2 x 2 max pool as one operator, against its parts in float64."""

import _pycnn
import numpy as np
import pytest
import reference
import tolerance
import winograd_bound

import pycnn
from pycnn import ops

SIZES = (1, 3, 16, 17, 31, 32, 33, 64)
CHANNELS = [(C, OC) for C in SIZES for OC in (16, 17)] + [(32, OC) for OC in SIZES]
GEOMETRIES = {
    "same": {"padding": "same", "pool_padding": "same"},
    "valid": {},
    "no_relu": {"padding": "same", "relu": False},
    "stride": {"stride": 2, "padding": 1, "pool_padding": "same"},
    "dilation": {"dilation": (2, 1), "padding": "same"},
    "groups": {"groups": 2, "padding": "same", "pool_padding": "same"},
    "four_sided": {"padding": ((0, 2), (3, 1)), "pool_padding": "same", "relu": False},
}
FUSED = ("pool_padding", "relu")


def parts(options):
    """The options of the convolution alone, the padding of the pool, and whether there is relu."""
    conv = {key: value for key, value in options.items() if key not in FUSED}
    return conv, options.get("pool_padding", "valid"), options.get("relu", True)


def make(rng, N, H, W, C, OC, kernel=(3, 3), **options):
    """(x, weight, bias) of normal numbers."""
    shapes = (N, H, W, C), (*kernel, C // options.get("groups", 1), OC), (OC,)
    return [rng.standard_normal(shape, dtype=np.float32) for shape in shapes]


def gradient(rng, y, share=1.0):
    """A dy whose non-zeros are about this share."""
    dy = rng.standard_normal(y.shape, dtype=np.float32)
    return np.where(rng.random(y.shape) < share, dy, np.float32(0))


def unpooled(dy, y, where, map_shape, relu):
    """The gradient of the map [N, OH, OW, OC]: exact, since windows do not overlap."""
    g = np.where(y > 0, dy, np.float32(0)) if relu else dy
    _, PH, PW, _ = y.shape
    rows = 2 * np.arange(PH)[:, None, None] + where // 2
    cols = 2 * np.arange(PW)[:, None] + where % 2
    indices = rows * map_shape[2] + cols
    return np.float32(reference.max_pool2d_backward(g, indices, map_shape))


def check_forward(x, weight, bias, **options):
    conv, pool_padding, relu = parts(options)
    y, where = ops.conv_pool(x, weight, bias, return_where=True, **options)
    np.testing.assert_array_equal(ops.conv_pool(x, weight, bias, **options), y)
    exact_map = reference.conv2d(x, weight, bias, **conv)
    exact, _ = reference.max_pool2d(exact_map, 2, padding=pool_padding)
    bound_map = tolerance.conv2d(x, weight, bias, **conv)
    bound, _ = reference.max_pool2d(bound_map, 2, padding=pool_padding)
    tolerance.assert_within(y, reference.relu(exact) if relu else exact, bound, "y")
    # The pixel that `where` names is the largest, as far as rounding can tell.
    n, ph, pw, c = np.indices(y.shape)
    named = exact_map[n, 2 * ph + where // 2, 2 * pw + where % 2, c]
    tolerance.assert_within(named, exact, 2 * bound, "where")
    return y, where


def dx_bound(g, weight, input_shape, conv):
    """Of Winograd, where dx of a dense map takes that; else 0."""
    chosen = pycnn.explain_conv2d(input_shape, weight.shape, **conv)
    if chosen.backward_input != "winograd":
        return 0.0
    m = winograd_bound.tile_size(*input_shape[1:3])
    return winograd_bound.conv2d_backward_input(g, weight, input_shape, chosen.padding, m)


def check_backward(dy, y, where, x, weight, **options):
    conv, _, relu = parts(options)
    shape = reference.conv2d(x[:1], weight, **conv).shape
    g = unpooled(dy, y, where, (len(x), *shape[1:]), relu)
    out = tuple(np.full(s, np.nan, np.float32) for s in (weight.shape, weight.shape[3:], x.shape))
    result = ops.conv_pool_backward(dy, y, where, x, weight, out=out, **options)
    assert all(a is b for a, b in zip(result, out, strict=True))
    names = (
        ("dweight", "conv2d_backward_weight", (x, g, weight.shape), conv),
        ("dbias", "conv2d_backward_bias", (g,), {}),
        ("dx", "conv2d_backward_input", (g, weight, x.shape), conv),
    )
    for name, op, arguments, keywords in names:
        exact = getattr(reference, op)(*arguments, **keywords)
        bound = getattr(tolerance, op)(*arguments, **keywords)
        if name == "dx" and not relu:
            bound = np.maximum(bound, dx_bound(g, weight, x.shape, conv))
        tolerance.assert_within(getattr(result, name), exact, bound, name)
    first = ops.conv_pool_backward(dy, y, where, x, weight, input_gradient=False, **options)
    assert first.dx is None
    exact = reference.conv2d_backward_weight(x, g, weight.shape, **conv)
    bound = tolerance.conv2d_backward_weight(x, g, weight.shape, **conv)
    tolerance.assert_within(first.dweight, exact, bound, "dweight without dx")
    return result


@pytest.mark.parametrize(("C", "OC"), CHANNELS)
def test_every_class_of_channels(isa, rng, C, OC):
    x, weight, bias = make(rng, 3, 7, 5, C, OC)
    options = GEOMETRIES["same"]
    y, where = check_forward(x, weight, bias, **options)
    check_backward(gradient(rng, y), y, where, x, weight, **options)


SMALL = ((2, 3), (1, 1))  # for SAME only
CASES = [
    (name, size, C)
    for name, options in GEOMETRIES.items()
    for size in ((8, 6), (7, 6), (6, 7), (7, 5), *(SMALL if name == "same" else ()))
    for C in ((1, 4, 16) if size == (7, 5) else (4,))
    if C > 1 or "groups" not in options
]


@pytest.mark.parametrize(("name", "size", "C"), CASES)
def test_every_geometry(isa, rng, name, size, C):
    options = GEOMETRIES[name]
    x, weight, bias = make(rng, 2, *size, C, 18, **options)
    y, where = check_forward(x, weight, bias, **options)
    check_backward(gradient(rng, y), y, where, x, weight, **options)


@pytest.mark.parametrize("kernel", [(1, 1), (2, 3), (5, 5), (1, 7), (3, 10)])
@pytest.mark.parametrize("C", [1, 3, 16, 33])
def test_every_kernel(isa, rng, kernel, C):
    x, weight, bias = make(rng, 2, 9, 11, C, 17, kernel)
    y, where = check_forward(x, weight, bias, padding="same")
    check_backward(gradient(rng, y), y, where, x, weight, padding="same")


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 1.0])
@pytest.mark.parametrize("C", [1, 32])
def test_every_share_of_zeros(isa, rng, share, C):
    x, weight, _ = make(rng, 9, 6, 6, C, 64)
    options = {"padding": "same", "relu": False}
    y, where = ops.conv_pool(x, weight, return_where=True, **options)
    result = check_backward(gradient(rng, y, share), y, where, x, weight, **options)
    if share == 0:
        assert not any(array.any() for array in result)


def lecture_sized(rng, N, H, C, OC, relu=True):
    x, weight, bias = make(rng, N, H, H, C, OC)
    options = {**GEOMETRIES["same"], "relu": relu}
    y, where = ops.conv_pool(x, weight, bias, return_where=True, **options)
    return gradient(rng, y, 0.9), y, where, x, weight, options


BITS = [
    (50, 28, 1, 32), (37, 14, 32, 64), (21, 7, 64, 128), (17, 9, 3, 40), (16, 6, 17, 33),
    (50, 14, 16, 16, False), (31, 7, 32, 64, False),
]  # fmt: skip


# Without a relu dx goes through the un-pooled map where Winograd pays; odd maps, VALID leaves the
# last row and column of them out.
@pytest.mark.parametrize("pool_padding", ["same", "valid"])
@pytest.mark.parametrize("size", [(7, 9), (8, 9), (14, 13)])
def test_dx_by_winograd(isa, rng, size, pool_padding):
    x, weight, bias = make(rng, 9, *size, 32, 64)
    options = {"padding": "same", "pool_padding": pool_padding, "relu": False}
    chosen = pycnn.explain_conv2d(x.shape, weight.shape, padding="same")
    assert chosen.backward_input == "winograd"
    y, where = ops.conv_pool(x, weight, bias, return_where=True, **options)
    check_backward(gradient(rng, y), y, where, x, weight, **options)


@pytest.mark.parametrize("shape", BITS)
def test_same_bits_for_any_threads_and_isa(rng, shape):
    *arrays, options = lecture_sized(rng, *shape)
    before = _pycnn.isa(), _pycnn.get_num_threads()
    results = {}
    try:
        for name in _pycnn.available_isas():
            _pycnn.use_isa(name)
            for threads in (1, 2, 3):
                pycnn.set_num_threads(threads)
                result = ops.conv_pool_backward(*arrays, **options)
                key = "baseline" if name == "baseline" else "fma"
                first = results.setdefault(key, result)
                for array, same in zip(result, first, strict=True):
                    np.testing.assert_array_equal(array, same, f"{name}, {threads} threads")
    finally:
        _pycnn.use_isa(before[0])
        pycnn.set_num_threads(before[1])


@pytest.mark.parametrize("C", [1, 32])
def test_the_forward_pass_gives_the_bits_of_its_parts(isa, num_threads, rng, C):
    x, weight, bias = make(rng, 5, 7, 7, C, 33)
    y, where = ops.conv_pool(
        x, weight, bias, padding="same", pool_padding="same", return_where=True
    )
    conv = ops.conv2d(x, weight, padding="same")
    pooled, indices = ops.max_pool2d(conv, 2, padding="same", return_indices=True)
    np.testing.assert_array_equal(y, np.maximum(pooled + bias, 0))
    rows = 2 * np.arange(4)[:, None, None] + where // 2
    np.testing.assert_array_equal(rows * 7 + 2 * np.arange(4)[:, None] + where % 2, indices)


def test_ties_and_nan_win_as_in_a_max_pool(isa, rng):
    """Small integers are exact and often tie."""
    x = rng.integers(-1, 2, (4, 6, 7, 19)).astype(np.float32)
    x[0, 1, 2, 3] = x[0, 1, 3, 3] = x[2, 5, 6, 18] = np.nan
    weight = np.eye(19, dtype=np.float32)[None, None]
    x[..., 7] = rng.integers(-1, 2, (4, 6, 7))
    clean = np.nan_to_num(x)
    y, where = ops.conv_pool(clean, weight, relu=False, pool_padding="same", return_where=True)
    exact, indices = reference.max_pool2d(clean, 2, padding="same")
    np.testing.assert_array_equal(y, exact)
    rows = 2 * np.arange(3)[:, None, None] + where // 2
    np.testing.assert_array_equal(rows * 7 + 2 * np.arange(4)[:, None] + where % 2, indices)
    one = ops.conv_pool(x[..., 3:4], np.ones((1, 1, 1, 1), np.float32), pool_padding="same")
    assert np.isnan(one[0, 0, 1, 0])
    assert np.isfinite(one[1]).all()


@pytest.mark.parametrize(("C", "OC"), [(1, 32), (16, 33), (33, 16), (64, 64)])
def test_the_gradients_are_adjoint_to_the_convolution(isa, rng, C, OC):
    """<conv(x, w), g> = <w, dweight> = <x, dx> for the g of any dy: no reference is needed."""
    x, weight, _ = make(rng, 4, 7, 7, C, OC)
    options = {**GEOMETRIES["same"], "relu": False}
    y, where = ops.conv_pool(x, weight, return_where=True, **options)
    dy = gradient(rng, y)
    result = ops.conv_pool_backward(dy, y, where, x, weight, **options)
    g = np.float64(unpooled(dy, y, where, (4, 7, 7, OC), False))
    forward = (reference.conv2d(x, weight, padding="same") * g).sum()
    magnitude = (reference.conv2d(np.abs(x), np.abs(weight), padding="same") * np.abs(g)).sum()
    bound = tolerance.gamma(max(g[..., 0].size, weight[:, :, 0].size) + 2) * magnitude
    assert abs((np.float64(weight) * result.dweight).sum() - forward) <= bound
    assert abs((np.float64(x) * result.dx).sum() - forward) <= bound


def test_skipped_products_hide_what_is_infinite(isa, rng):
    x, weight, _ = make(rng, 2, 6, 6, 16, 16)
    options = {"padding": "same", "relu": False}
    y, where = ops.conv_pool(x, weight, return_where=True, **options)
    x[0], weight[..., 3] = np.inf, np.nan
    dy = gradient(rng, y)
    dy[0], dy[..., 3] = 0, 0
    result = ops.conv_pool_backward(dy, y, where, x, weight, **options)
    assert all(np.isfinite(array).all() for array in result)


def test_a_nan_in_the_gradient_is_not_taken_for_zero(isa, rng):
    x, weight, _ = make(rng, 1, 6, 6, 16, 17)
    options = {"padding": "same", "relu": False}
    y, where = ops.conv_pool(x, weight, return_where=True, **options)
    dy = np.zeros_like(y)
    dy[0, 1, 1, 16] = np.nan
    result = ops.conv_pool_backward(dy, y, where, x, weight, **options)
    assert np.isnan(result.dbias[16])
    assert np.isnan(result.dweight[..., 16]).all()
    assert np.isnan(result.dx).any()
    assert np.isfinite(result.dbias[:16]).all()


@pytest.mark.parametrize("C", [1, 3])
def test_an_empty_batch(isa, C):
    x, weight = np.zeros((0, 6, 6, C), np.float32), np.ones((3, 3, C, 5), np.float32)
    y, where = ops.conv_pool(x, weight, return_where=True)
    result = ops.conv_pool_backward(y, y, where, x, weight)
    assert y.shape == (0, 2, 2, 5)
    assert not result.dweight.any()
    assert not result.dbias.any()
    assert result.dx.shape == x.shape


def sample(rng):
    x, weight, bias = make(rng, 2, 5, 5, 3, 4)
    y, where = ops.conv_pool(x, weight, bias, return_where=True, **GEOMETRIES["same"])
    return {"dy": gradient(rng, y), "y": y, "where": where, "x": x, "weight": weight}


BAD = {
    "float64": ({"x": np.float64}, TypeError, ("x", "float64", "float32")),
    "dy_float64": ({"dy": np.float64}, TypeError, ("dy", "float64", "float32")),
    "where_type": ({"where": np.int32}, TypeError, ("where", "int32", "uint8")),
    "where_large": (
        {"where": lambda w: w + 4},
        ValueError,
        ("where holds", "[4-7]", r"window of \([12], [12]\)"),
    ),
    "where_outside": (
        {"where": lambda w: np.where(np.arange(3)[:, None] == 2, 1, w).astype(np.uint8)},
        ValueError,
        ("where", "1", r"window of \([12], 1\)"),
    ),
    "dy_shape": ({"dy": lambda a: a[:, :2]}, ValueError, ("dy", r"2, 2, 3, 4", r"2, 3, 3, 4")),
    "channels": ({"weight": lambda a: a[:, :, :2]}, ValueError, ("weight", "3", "2")),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arrays_are_refused_in_a_sentence(rng, case):
    changes, exception, words = BAD[case]
    arrays = sample(rng)
    for name, change in changes.items():
        array = arrays[name]
        arrays[name] = array.astype(change) if isinstance(change, type) else change(array)
    pattern = "(?s)conv(2d|_pool_backward): " + "".join(f"(?=.*{word})" for word in words)
    with pytest.raises(exception, match=pattern):
        ops.conv_pool_backward(**arrays, **GEOMETRIES["same"])


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"pool_padding": 1}, "pool_padding"),
        ({"groups": 0}, "groups"),
        ({"stride": 0}, "stride"),
        ({"groups": 2**63}, "groups"),
        ({"dilation": 2**63 - 1, "padding": "same"}, "dilation"),
        ({"algorithm": "fft"}, "fft"),
        ({"algorithm": None}, "algorithm is None"),
        ({"padding": "full"}, "padding"),
    ],
)
def test_bad_options_are_refused_in_a_sentence(rng, options, word):
    x, weight, bias = make(rng, 2, 5, 5, 3, 4)
    with pytest.raises(ValueError, match=word):
        ops.conv_pool(x, weight, bias, **options)


def test_a_map_without_a_window_is_refused(rng):
    x, weight, _ = make(rng, 1, 3, 5, 3, 4)
    with pytest.raises(ValueError, match=r"\(1, 3\).*2 x 2"):
        ops.conv_pool(x, weight)


def test_results_must_lie_apart(rng):
    arrays = sample(rng)
    options = GEOMETRIES["same"]
    x, weight = arrays["x"], arrays["weight"]
    shapes = weight.shape, (4,), x.shape
    fresh = [np.empty(shape, np.float32) for shape in shapes]
    for position, name in ((0, "weight"), (2, "x")):
        out = list(fresh)
        out[position] = arrays[name]
        with pytest.raises(ValueError, match=f"memory with {name}"):
            ops.conv_pool_backward(**arrays, out=tuple(out), **options)
    with pytest.raises(ValueError, match="shares memory"):
        ops.conv_pool_backward(
            **arrays, out=(fresh[0], fresh[0].reshape(-1)[:4], fresh[2]), **options
        )
    for out, asked in ((fresh[:2], True), ([*fresh[:2], None], True), (fresh, False)):
        with pytest.raises(TypeError, match=r"triple .* exactly if input_gradient=False"):
            ops.conv_pool_backward(**arrays, out=tuple(out), input_gradient=asked, **options)
    with pytest.raises(ValueError, match="memory with x"):
        ops.conv_pool(x, weight, out=x.reshape(-1)[:72].reshape(2, 3, 3, 4), **options)
    y = np.empty((2, 3, 3, 4), np.float32)
    with pytest.raises(ValueError, match="memory"):
        ops.conv_pool(
            x,
            weight,
            out=(y, y.view(np.uint8).reshape(-1)[:72].reshape(y.shape)),
            return_where=True,
            **options,
        )


def test_the_names_of_paddings_are_those_of_tensorflow_too(rng):
    x, weight, bias = make(rng, 2, 7, 5, 3, 4)
    for name in ("same", "valid"):
        y = ops.conv_pool(x, weight, bias, padding=name.upper(), pool_padding=name.upper())
        same = ops.conv_pool(x, weight, bias, padding=name, pool_padding=name)
        np.testing.assert_array_equal(y, same)
    assert y.shape == (2, 2, 1, 4)


@pytest.mark.parametrize("relu", ["relu6", 1, None])
def test_relu_is_true_or_false(relu):
    """The name of another activation must not count as relu."""
    x, weight = np.ones((1, 4, 5, 2), np.float32), np.ones((3, 3, 2, 4), np.float32)
    with pytest.raises(ValueError, match=r"^conv_pool: relu is .*; expected True or False\.$"):
        ops.conv_pool(x, weight, relu=relu)
    y, where = ops.conv_pool(x, weight, return_where=True)
    with pytest.raises(ValueError, match=r"^conv_pool: relu is .*; expected True or False\.$"):
        ops.conv_pool_backward(y, y, where, x, weight, relu=relu)

"""Images of another size and rims that repeat them: values, gradients, other libraries, bits."""

import itertools

import _pycnn
import numpy as np
import pytest
from op_moves import resize_bound
from plan_check import check
from resize_reference import resize as plain

import pycnn
from pycnn import layers, ops
from pycnn.ops import taps
from pycnn.testing import check_layer

NEAREST = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
COORDINATES = taps.COORDINATES[:-1]


@pytest.mark.parametrize("coordinates", COORDINATES)
@pytest.mark.parametrize("mode", taps.MODES)
@pytest.mark.parametrize("C", [1, 83])
def test_every_mode_is_the_definition(isa, rng, mode, coordinates, C):
    """Larger, smaller, by sizes, by scales that leave a rest; to one pixel and of one."""
    for shape, how in (
        ((2, 4, 5, C), {"scale": 2}),
        ((1, 4, 5, C), {"scale": (2.6, 0.6)}),
        ((2, 7, 3, C), {"size": (3, 8)}),
        ((1, 5, 4, C), {"size": (1, 9)}),
        ((1, 1, 1, C), {"size": (3, 2)}),
    ):
        x = rng.standard_normal(shape, np.float32)
        for nearest in NEAREST if mode == "nearest" else NEAREST[:1]:
            options = {**how, "mode": mode, "coordinates": coordinates, "nearest": nearest}
            exact, y = plain(x, **options), ops.resize(x, **options)
            assert y.shape == exact.shape
            bound = resize_bound(x, **options) if mode != "nearest" else 0
            assert (np.abs(y - exact) <= bound).all(), options


def test_nearest_gives_the_bits_themselves(isa):
    x = np.array([0.0, -0.0, np.nan, np.inf, -np.inf, 1e-42], np.float32).reshape(1, 2, 3, 1)
    for dtype in (np.float32, np.float64):
        y = ops.resize(x.astype(dtype), scale=2)
        expected = x.astype(dtype).repeat(2, axis=1).repeat(2, axis=2)
        np.testing.assert_array_equal(y.view(np.uint8), expected.view(np.uint8))


def test_a_pixel_of_weight_0_is_not_read():
    """Twice as large with corners that lie upon each other: some pixels are those of x."""
    x = np.array([1, np.nan, 3], np.float32).reshape(1, 1, 3, 1)
    y = ops.resize(x, (1, 5), mode="bilinear", coordinates="align_corners")
    np.testing.assert_array_equal(y.ravel(), [1, np.nan, np.nan, np.nan, 3])


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_smaller_images_are_means_with_antialias(mode, antialias, rng):
    x = rng.standard_normal((2, 11, 13, 3), np.float32)
    how = {"size": (4, 5), "mode": mode, "antialias": antialias}
    np.testing.assert_allclose(ops.resize(x, **how), plain(x, **how), rtol=0, atol=1e-6)
    ones = ops.resize(np.ones_like(x), **how)
    np.testing.assert_allclose(ones, 1, rtol=1e-6)


@pytest.mark.parametrize("threads", [1, 2])
def test_large_results_are_stored_past_the_caches(threads, rng):
    """Sixteen channels, aligned: whole vectors; the numbers are the same."""
    x = rng.standard_normal((4, 32, 48, 16), np.float32)
    found, caches = [], _pycnn.caches()
    with pycnn.num_threads(threads):
        for l3 in (1 << 20, 64 << 20):
            _pycnn.set_caches(caches[0], l3)
            y = ops.resize(x, scale=2)
            joined = ops.concat([y, y])
            found.append((y, ops.resize_backward(y, x.shape, scale=2), joined))
    _pycnn.set_caches(*caches)
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(found[0][0], x.repeat(2, axis=1).repeat(2, axis=2))
    np.testing.assert_array_equal(found[0][2], np.concatenate([found[0][0]] * 2, axis=-1))


# layers

LAYERS = {
    "nearest": (lambda: layers.Resize(scale=2), (2, 3, 4, 5)),
    "nearest_smaller": (lambda: layers.Resize((2, 3), nearest="ceil"), (2, 5, 4, 3)),
    "bilinear": (lambda: layers.Resize(scale=(1.5, 2.0), mode="bilinear"), (2, 3, 4, 2)),
    "corners": (lambda: layers.Upsample((5, 3), mode="bilinear", align_corners=True), (2, 3, 4, 2)),
    "cubic": (lambda: layers.Resize((3, 6), mode="bicubic", exclude_outside=True), (2, 4, 4, 2)),
    "antialias": (lambda: layers.Resize((2, 3), mode="bilinear", antialias=True), (2, 5, 6, 2)),
    "crop": (
        lambda: layers.Resize(
            (3, 4), mode="bilinear", coordinates="tf_crop_and_resize", roi=((0.2, 1.1), (0, 0.7)),
            outside=2.5,
        ),
        (2, 5, 6, 2),
    ),
    "upsample": (lambda: layers.Upsample(scale=2), (2, 3, 2, 4)),
    "reflect": (lambda: layers.Pad(((2, 1), (0, 3)), "reflect"), (2, 3, 4, 2)),
    "edge": (lambda: layers.Pad(((2, 1), (0, 3)), "edge"), (2, 1, 4, 2)),
    "wrap": (lambda: layers.Pad(((2, 1), (0, 3)), mode="wrap"), (2, 3, 4, 2)),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_its_gradient_its_plan_and_its_compiled_step(name, rng):
    make, shape = LAYERS[name]
    layer = make()
    check_layer(layer, shape)
    x = rng.standard_normal((7, *shape[1:])).astype(np.float32)
    model = layers.Sequential(layers.ReLU(), layer, layers.Reshape((-1,)))
    compiled = model.compile_inference((None, *shape[1:]))
    np.testing.assert_array_equal(compiled(x), model.eval()(x))
    for mode in ("training", "eval"):
        program = model.train(mode == "training").program((1, *shape[1:]))
        check(pycnn.graph.plan.Plan(program, np.float32, mode))


@pytest.mark.parametrize("mode", ["reflect", "edge", "wrap"])
def test_rims_are_numpys(isa, mode, rng):
    for shape, sides in (((2, 4, 5, 17), ((3, 0), (1, 4))), ((1, 2, 2, 3), ((1, 1), (1, 1)))):
        x = rng.standard_normal(shape, np.float32)
        np.testing.assert_array_equal(
            ops.pad(x, sides, mode), np.pad(x, ((0, 0), *sides, (0, 0)), mode=mode)
        )


# other libraries, where they are installed


@pytest.mark.parametrize("coordinates", taps.COORDINATES)
@pytest.mark.parametrize("mode", taps.MODES)
def test_the_values_of_onnx(mode, coordinates, rng):
    pytest.importorskip("onnx")
    import onnx.reference.ops.op_resize as theirs

    x = rng.standard_normal((5, 6)).astype(np.float32)
    coefficients = {
        "bilinear": theirs._linear_coeffs,
        "bicubic": lambda ratio, scale: theirs._cubic_coeffs(ratio, scale, -0.75),
    }
    for scales, nearest in itertools.product(((2.0, 0.7), (1.6, 3.0), (0.5, 1.25)), NEAREST):
        if mode != "nearest" and nearest != NEAREST[0]:
            continue
        roi = ((0.1, 0.8), (0.3, 1.4))
        layer = layers.Resize(
            None, scales, mode, coordinates, nearest, roi=roi, outside=7.0, cubic=-0.75
        )
        flat = np.array([begin for begin, _ in roi] + [end for _, end in roi])
        weights = coefficients.get(
            mode, lambda ratio, scale, how=nearest: theirs._nearest_coeffs(ratio, how)
        )
        expected = theirs._interpolate_nd(
            x, weights, scale_factors=list(scales), roi=flat, extrapolation_value=7.0,
            coordinate_transformation_mode=coordinates,
        )  # fmt: skip
        y = layer.eval()(x[None, ..., None])[0, ..., 0]
        np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("corners", [False, True])
@pytest.mark.parametrize("mode", taps.MODES)
@pytest.mark.parametrize("size", [(9, 5), (3, 7), (10, 12)])
def test_the_values_and_gradients_of_pytorch(mode, corners, size, rng):
    torch = pytest.importorskip("torch")
    if mode == "nearest" and corners:
        return
    x = rng.standard_normal((2, 5, 6, 3)).astype(np.float32)
    theirs = torch.tensor(x.transpose(0, 3, 1, 2), requires_grad=True)
    how = {} if mode == "nearest" else {"align_corners": corners}
    y = torch.nn.functional.interpolate(theirs, size=size, mode=mode, **how)
    dy = rng.standard_normal((2, *size, 3)).astype(np.float32)
    y.backward(torch.tensor(dy.transpose(0, 3, 1, 2)))
    layer = layers.Upsample(size, mode=mode, align_corners=corners)
    np.testing.assert_allclose(layer(x), y.detach().numpy().transpose(0, 2, 3, 1), atol=1e-5)
    dx = theirs.grad.numpy().transpose(0, 2, 3, 1)
    np.testing.assert_allclose(layer.backward(dy), dx, atol=1e-5)


X = (2, 4, 6, 8)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: layers.Resize(), r"^Resize: size and scale are None"),
        (lambda: layers.Resize(0), r"^Resize: size is 0; expected one or two ints from 1"),
        (lambda: layers.Resize((2, 3, 4)), r"^Resize: size is \(2, 3, 4\)"),
        (lambda: layers.Resize(2.0), r"^Resize: size is 2.0"),
        (lambda: layers.Resize(scale=0), r"^Resize: scale is 0; expected one or two numbers above"),
        (lambda: layers.Resize(scale=(2, np.inf)), r"^Resize: scale is \(2, inf\)"),
        (lambda: layers.Resize(scale=0.2), r"^Resize: scale is \(0.2, 0.2\), which makes \(0, 1\)"),
        (lambda: layers.Resize(2, mode="linear"), r'^Resize: mode is \'linear\'; .*"bilinear"'),
        (lambda: layers.Resize(2, coordinates="x"), r'^Resize: coordinates is \'x\'; .*"asymm'),
        (lambda: layers.Resize(2, nearest="round"), r"^Resize: nearest is 'round'; expected"),
        (lambda: layers.Pad(((4, 0), (0, 0)), "reflect"), r"^Pad: padding is 4 of an axis of 4"),
        (lambda: layers.Pad(((0, 0), (0, 7)), "wrap"), r"padding is 7 of an axis of 6; .*most 6"),
        (lambda: layers.Pad([(1, 1)] * 3, "edge"), r"^Pad: padding is .*and \[N, H, W, C\] for"),
    ],
)
def test_what_does_not_fit_is_a_sentence(make, words):
    with pytest.raises(ValueError, match=words):
        make().output_shape(X)
    for layer in (layers.Pad(((1, 1), (1, 1)), "edge"), layers.Resize(2)):
        with pytest.raises(ValueError, match=r"\[N, H, W, C\]"):
            layer.output_shape(X[1:])


def test_tables_that_reach_beyond_an_axis_are_refused():
    x, y = np.ones((1, 2, 3, 4), np.float32), np.ones((1, 2, 3, 4), np.float32)
    one = np.array([0, 1, 2]), np.array([0, 1]), np.ones(2)
    three = np.arange(4), np.arange(3), np.ones(3)
    _pycnn.resample(y, x, one, three, 0.0)
    for wrong in (
        (np.array([0, 1, 2]), np.array([0, 2]), np.ones(2)),
        (np.array([0, 1, 2]), np.array([0, -1]), np.ones(2)),
        (np.array([0, 2, 1]), np.array([0, 1]), np.ones(2)),
        (np.array([0, 1, 3]), np.array([0, 1]), np.ones(2)),
        (np.array([1, 1, 2]), np.array([0, 1]), np.ones(2)),
        (np.array([0, 1, 2]), np.array([0, 1]), np.ones(3)),
        (np.array([0, 1, 2]), np.array([0, 1]), np.ones(2, np.float32)),
        (np.array([0]), np.zeros(0, np.int64), np.zeros(0)),
    ):
        with pytest.raises(ValueError, match="the table of taps does not fit"):
            _pycnn.resample(y, x, wrong, three, 0.0)

"""What moves numbers: concat, split, slices, permutations, shuffles, padding, depth to space."""

import _pycnn
import numpy as np
import pytest
from graph_cases import all_of, by_hand, step
from op_table import frozen
from plan_check import check

import pycnn
from pycnn import layers, ops
from pycnn.testing import check_layer

WIDTHS = [(16,), (3, 1, 17), (1, 1), (8, 32, 8), (0, 5)]
AXES = [(), (7,), (2, 5, 3)]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("axes", AXES, ids=str)
@pytest.mark.parametrize("widths", WIDTHS, ids=str)
def test_concat_and_split_are_numpys(num_threads, widths, axes, dtype):
    size = 1
    parts = []
    for width in widths:
        shape = (*axes, width)
        count = int(np.prod(shape))
        parts.append(frozen(np.arange(size, size + count).astype(dtype).reshape(shape)))
        size += count
    whole = ops.concat(parts)
    assert whole.dtype == dtype
    np.testing.assert_array_equal(whole, np.concatenate(parts, axis=-1))
    pieces = ops.split(frozen(whole), widths)
    assert isinstance(pieces, list)
    for piece, part in zip(pieces, parts, strict=True):
        np.testing.assert_array_equal(piece, part)
        assert not np.shares_memory(piece, whole)


def test_many_rows_go_to_threads(rng):
    parts = [rng.standard_normal((60_000, width), dtype=np.float32) for width in (24, 7)]
    for threads in (1, 2, 3):
        with pycnn.num_threads(threads):
            whole = ops.concat(parts)
            np.testing.assert_array_equal(whole, np.concatenate(parts, axis=-1))
            for piece, part in zip(ops.split(whole, (24, 7)), parts, strict=True):
                np.testing.assert_array_equal(piece, part)


def test_concat_writes_out_and_nothing_beside_it(rng):
    a, b = (rng.standard_normal((5, width), dtype=np.float32) for width in (3, 4))
    room = np.full(5 * 7 + 20, -7, np.float32)
    out = room[10:45].reshape(5, 7)
    assert ops.concat([a, b], out=out) is out
    np.testing.assert_array_equal(out, np.concatenate([a, b], axis=-1))
    assert (room[:10] == -7).all()
    assert (room[45:] == -7).all()


def test_one_array_may_come_twice(rng):
    a = rng.standard_normal((5, 3), dtype=np.float32)
    np.testing.assert_array_equal(ops.concat((a, a, a)), np.tile(a, 3))


def test_split_skips_what_is_not_wanted(rng):
    x = rng.standard_normal((4, 10), dtype=np.float32)
    middle = np.full((4, 3), np.nan, np.float32)
    pieces = ops.split(x, [5, 3, 2], out=[None, middle, None])
    assert pieces[0] is None
    assert pieces[1] is middle
    assert pieces[2] is None
    np.testing.assert_array_equal(middle, x[:, 5:8])


def test_gaps_are_copied(rng):
    a = rng.standard_normal((4, 10), dtype=np.float32)
    np.testing.assert_array_equal(
        ops.concat([a[:, ::2], a.T[:4]]), np.concatenate([a[:, ::2], a.T[:4]], axis=-1)
    )
    for piece, part in zip(ops.split(a[:, ::2], [2, 3]), (a[:, :4:2], a[:, 4::2]), strict=True):
        np.testing.assert_array_equal(piece, part)


_A = np.zeros((2, 3, 4), np.float32)
_SHARED = np.zeros((2, 3, 8), np.float32)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: ops.concat([]), ValueError, r"^concat: arrays is empty; expected at least one"),
        (lambda: ops.concat(_A), TypeError, r"^concat: arrays is a ndarray; expected a list"),
        (lambda: ops.concat([_A, None]), TypeError, r"^concat: arrays\[1\] is None; expected a"),
        (lambda: ops.concat([_A, np.float32(1)]), ValueError, r"arrays\[1\] has no axes"),
        (
            lambda: ops.concat([_A, _A[:, :2]]),
            ValueError,
            r"arrays\[1\] .*\(2, 2, 4\).*\(2, 3, 4\)",
        ),
        (lambda: ops.concat([_A, _A[0]]), ValueError, r"arrays\[1\] has shape \(3, 4\)"),
        (lambda: ops.concat([_A, np.float64(_A)]), TypeError, r"arrays\[1\] is float64.*one type"),
        (lambda: ops.concat([np.int64(_A)]), TypeError, r"arrays\[0\] is int64; expected float32"),
        (lambda: ops.concat([_A, _A], out=_A), ValueError, r"out has shape .*expected \(2, 3, 8\)"),
        (
            lambda: ops.concat([_SHARED.ravel()[:8], _A.ravel()[:2]], out=_SHARED.ravel()[4:14]),
            ValueError,
            r"out shares memory with arrays\[0\]",
        ),
        (
            lambda: ops.split(_SHARED, [4, 4], out=[_A, _A]),
            ValueError,
            r"out\[1\] shares memory with another array of out",
        ),
        (
            lambda: ops.split(_SHARED.ravel()[:8], [4, 4], out=[None, _SHARED.ravel()[2:6]]),
            ValueError,
            r"out\[1\] shares memory with x",
        ),
        (lambda: ops.split(_SHARED, [4, 4], out=[None, _A[0]]), ValueError, r"out\[1\] has shape"),
        (lambda: ops.split(_A, [4], out=[np.float64(_A)]), TypeError, r"out\[0\] is float64"),
        (lambda: ops.concat([_A, _A], axis=3), ValueError, r"axis is 3; .*from -3 to 2"),
        (lambda: ops.concat([_A, _A[:, :2]], axis=0), ValueError, r"\(2, 2, 4\).*for axis 0"),
        (lambda: ops.split(_A, 4), TypeError, r"^split: sizes is an int; expected a list of ints"),
        (lambda: ops.split(_A, [4], out=_A), TypeError, r"^split: out is a ndarray; expected a l"),
    ],
)
def test_what_does_not_fit_is_a_sentence(call, error, words):
    with pytest.raises(error, match=words):
        call()


# the strided copy itself: every way through it, against NumPy


def views(n, case, dtype):
    """(the shape of y, views of y and x) of one way through `csrc/ops/maps/copy.cpp`."""
    x = np.arange(1, n + 1, dtype=dtype)
    return {
        "whole": lambda y: (y, x),
        "long_rows": lambda y: (y.reshape(-1, 700)[:, 7:], x.reshape(-1, 700)[:, 7:]),
        "narrow_rows": lambda y: (y.reshape(-1, 7)[:, :5], x.reshape(-1, 7)[:, 1:6]),
        "eight": lambda y: (y.reshape(-1, 28)[:, :8], x.reshape(-1, 28)[:, 3:11]),
        "nine": lambda y: (y.reshape(-1, 28)[:, :9], x.reshape(-1, 28)[:, 3:12]),
        "turned": lambda y: (y.reshape(700, -1), x.reshape(-1, 700).T),
        "turned_narrow": lambda y: (y.reshape(4, -1), x.reshape(-1, 4).T),
        "turned_wide": lambda y: (y.reshape(-1, 4), x.reshape(4, -1).T),
        "in_three": lambda y: (y.reshape(28, 50, -1), x.reshape(50, -1, 28).transpose(2, 0, 1)),
        "strided": lambda y: (y.reshape(-1, 28)[:, ::3], x.reshape(-1, 28)[:, ::-3]),
        "filled": lambda y: (y.reshape(-1, 28), np.broadcast_to(x[::28, None], (n // 28, 28))),
        "one_number": lambda y: (y.reshape(-1, 28)[:, 3:], np.broadcast_to(x[5], (n // 28, 25))),
        "backwards": lambda y: (y.reshape(-1, 28), x.reshape(-1, 28)[::-1]),
        "no_axis": lambda y: (y.reshape(-1)[3:4].reshape(()), x[5:6].reshape(())),
        "nothing": lambda y: (y.reshape(-1, 28)[:, :0], x.reshape(-1, 28)[:, :0]),
    }[case]


CASES = [
    "whole", "long_rows", "narrow_rows", "eight", "nine", "turned", "turned_narrow", "turned_wide",
    "in_three", "strided", "filled", "one_number", "backwards", "no_axis", "nothing",
]  # fmt: skip


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("n", [2800, 700 * 1000])  # on one thread, and in pieces on several
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_copy_is_numpys(num_threads, n, case, dtype):
    expected, y = np.full(n, -7, dtype), np.full(n, -7, dtype)
    to, source = views(n, case, dtype)(expected)
    to[...] = source
    _pycnn.move([views(n, case, dtype)(y)])
    np.testing.assert_array_equal(y, expected)


def test_pieces_are_moved_in_their_order():
    y = np.zeros((3, 4), np.float32)
    ones = np.ones((3, 4), np.float32)
    _pycnn.move([(y, ones), (y[:, 1:3], np.broadcast_to(np.float32(5), (3, 2)))])
    np.testing.assert_array_equal(y, [[1, 5, 5, 1]] * 3)
    _pycnn.move([])
    with pytest.raises(ValueError, match=r"a piece is \(3, 4\), its source \(3, 2\)"):
        _pycnn.move([(y, ones[:, :2])])


# layers

# name: (how to make it, shapes of the inputs)
LAYERS = {
    "concat_rows": (lambda: layers.Concat(1), [(2, 3, 2, 4), (2, 1, 2, 4)]),
    "concat_columns": (lambda: layers.Concat(axis=-2), [(2, 3, 2, 4), (2, 3, 5, 4)]),
    "split_rows": (lambda: layers.Split((1, 2), 1), [(2, 3, 4)]),
    "split_one": (lambda: layers.Split([4], axis=2), [(2, 3, 4)]),
    "slice": (lambda: layers.Slice(1, 4), [(2, 3, 2, 5)]),
    "slice_step": (lambda: layers.Slice(None, None, 2), [(2, 3, 5)]),
    "slice_back": (lambda: layers.Slice(-1, None, -2, axis=1), [(2, 5, 3)]),
    "shuffle": (lambda: layers.ChannelShuffle(3), [(2, 3, 2, 12)]),
    "permute": (lambda: layers.Permute((0, 3, 1, 2)), [(2, 3, 2, 5)]),
    "reshape": (lambda: layers.Reshape((-1, 2, 3)), [(2, 3, 2, 5)]),
    "reshape_known": (lambda: layers.Reshape([30]), [(2, 3, 2, 5)]),
    "pad": (lambda: layers.Pad(((1, 2), (0, 3)), value=-2.5), [(2, 3, 2, 5)]),
    "pad_channels": (lambda: layers.Pad([[0, 1]]), [(2, 5)]),
    "crop": (lambda: layers.Crop(((1, 0), (0, 1))), [(2, 3, 2, 5)]),
    "depth_to_space": (lambda: layers.DepthToSpace(2), [(2, 3, 2, 12)]),
    "depth_to_space_crd": (lambda: layers.DepthToSpace(2, "CRD"), [(2, 3, 2, 12)]),
    "space_to_depth": (lambda: layers.SpaceToDepth(2), [(2, 4, 6, 3)]),
    "space_to_depth_crd": (lambda: layers.SpaceToDepth(3, mode="CRD"), [(2, 3, 6, 2)]),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_its_gradient_and_its_compiled_step(name, rng):
    make, shapes = LAYERS[name]
    layer = make()
    check_layer(layer, *shapes)
    xs = [rng.standard_normal((7, *shape[1:])).astype(np.float32) for shape in shapes]
    compiled = layer.compile_inference(*((None, *shape[1:]) for shape in shapes))
    ours, plain = compiled(*xs), layer.eval()(*xs)
    for got, expected in zip(all_of(ours), all_of(plain), strict=True):
        np.testing.assert_array_equal(got, expected)


class Paths(layers.Module):
    """Views, moves in front of views, and a value that several moves read."""

    def __init__(self):
        super().__init__()
        self.conv = layers.Conv2d(3, 8, 3, padding=1, rng=1)

    def forward(self, x):
        y = layers.relu(self.conv(layers.Pad(((1, 0), (0, 1)), value=0.5)(x)))
        a, b = layers.split(layers.ChannelShuffle(2)(y), (3, 5))
        flat = layers.Reshape((-1, 4))(layers.Permute((0, 2, 1, 3))(y))
        rows = layers.concat([y, layers.Crop(((0, 1), (0, 0)))(y)], axis=1)
        deep = layers.SpaceToDepth(2)(layers.DepthToSpace(2, "CRD")(y))
        return layers.concat([b, layers.Slice(0, 2)(a), deep]), flat, layers.Reshape((-1,))(rows)


def test_moves_in_a_network(num_threads, rng):
    """By its plan, compiled, and step by step."""
    model = Paths()
    xs = [rng.standard_normal((5, 3, 5, 3)).astype(np.float32)]
    dys = [rng.standard_normal(s).astype(np.float32) for s in model.output_shape(xs[0].shape)]
    expected = by_hand(model, xs, dys)
    for got, right in zip(step(model, xs, dys), expected, strict=True):
        np.testing.assert_allclose(got, right, rtol=1e-5, atol=1e-5)
    shapes = [(1, 3, 5, 3)]
    for mode in ("training", "eval"):
        check(pycnn.graph.plan.Plan(model.program(*shapes), np.float32, mode))
    compiled = model.compile_inference((None, 3, 5, 3))
    for got, right in zip(all_of(compiled(*xs)), all_of(model.eval()(*xs)), strict=True):
        np.testing.assert_allclose(got, right, rtol=1e-5, atol=1e-5)


def test_a_network_of_moves_is_kept_in_files(tmp_path, rng):
    model = Paths().eval()
    x = rng.standard_normal((2, 3, 5, 3)).astype(np.float32)
    expected = model(x)
    pycnn.save_model(model, tmp_path / "model")
    for got, right in zip(pycnn.load_model(tmp_path / "model").eval()(x), expected, strict=True):
        np.testing.assert_array_equal(got, right)


X = (2, 4, 6, 8)


@pytest.mark.parametrize(
    ("make", "shapes", "words"),
    [
        (lambda: layers.Concat(0), [X, X], r"^Concat: axis is 0 .*behind N"),
        (lambda: layers.Concat(-4), [X, X], r"^Concat: axis is -4 .*behind N"),
        (lambda: layers.Concat(4), [X, X], r"^Concat: axis is 4; .*from -4 to 3"),
        (lambda: layers.Concat(1.0), [X, X], r"^Concat: axis is 1.0"),
        (lambda: layers.Concat(1), [X, (2, 4, 6, 7)], r"arrays\[1\] has .*but for axis 1"),
        (lambda: layers.Split((3, 5), 1), [X], r"^Split: x has .* 8; expected 4.*axis 1"),
        (lambda: layers.Split((0, 8)), [X], r"sizes is \(0, 8\)"),
        (lambda: layers.Slice(9), [X], r"^Slice: start = 9.* leave nothing of axis 3"),
        (lambda: layers.Slice(0, 2, axis=0), [X], r"axis is 0"),
        (lambda: layers.ChannelShuffle(3), [X], r"C channels.* groups = 3"),
        (lambda: layers.ChannelShuffle(0), [X], r"^ChannelShuffle: groups is 0"),
        (lambda: layers.Permute((3, 1, 2, 0)), [X], r"^Permute: axes is .*0, the images"),
        (lambda: layers.Permute(3), [X], r"^Permute: axes is 3; expected a list"),
        (lambda: layers.Permute((0, 2, 1)), [X], r"each of 0 \.\. 3 once"),
        (lambda: layers.Reshape((-1, -1)), [X], r"^Reshape: shape is .*one of which"),
        (lambda: layers.Reshape((0, 4)), [X], r"shape is \(0, 4\)"),
        (lambda: layers.Reshape((5, -1)), [X], r"192 numbers an image.*\(5, -1\)"),
        (lambda: layers.Reshape((96,)), [X], r"192 numbers an image.*\(96,\)"),
        (lambda: layers.Pad(((1, 1),)), [X], r"^Pad: padding is .*a pair for each axis"),
        (lambda: layers.Pad(1), [X], r"^Pad: padding is 1; expected \(\(top"),
        (lambda: layers.Pad(((1, 1),) * 2, "same"), [X], r"^Pad: mode is 'same'"),
        (lambda: layers.Pad(((1, 1),) * 2, value="0"), [X], r"^Pad: value is '0'"),
        (lambda: layers.Crop(((2, 2), (0, 0))), [X], r"^Crop: x has .*\(2, 0, 6, 8\)"),
        (lambda: layers.DepthToSpace(3), [X], r"^DepthToSpace: x has .*block = 9"),
        (lambda: layers.DepthToSpace(2, "RDC"), [X], r"^DepthToSpace: mode is 'RDC'"),
        (lambda: layers.DepthToSpace(2), [X[1:]], r"3 axes; expected 4: \[N, H, W, C\]"),
        (lambda: layers.SpaceToDepth(4), [X], r"^SpaceToDepth: x has .*block = 4"),
    ],
)  # fmt: skip
def test_a_layer_that_does_not_fit_is_a_sentence(make, shapes, words):
    with pytest.raises((TypeError, ValueError), match=words):
        make().output_shape(*shapes)

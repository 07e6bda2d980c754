"""The last number that is right and the first that is not; and settings that change later."""

import _pycnn
import numpy as np
import pytest
import reference
from network_builder import Built

import pycnn
from pycnn import ops


def integers(rng, *shape, size=4):
    return rng.integers(-size, size + 1, shape).astype(np.float32)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_last_pixel_of_an_image_is_an_index_and_the_next_is_not(dtype):
    dy, indices = np.ones((2, 1, 1, 2), dtype), np.zeros((2, 1, 1, 2), np.int32)
    indices[1, 0, 0, 1] = 3 * 5 - 1
    dx = ops.max_pool2d_backward(dy, indices, (2, 3, 5, 2))
    assert dx[1, 2, 4, 1] == 1
    assert dx.sum() == 4
    for wrong in (3 * 5, 3 * 5 + 1, -1, np.iinfo(np.int32).min, np.iinfo(np.int32).max):
        indices[1, 0, 0, 1] = wrong
        with pytest.raises(ValueError, match=rf"holds {wrong};.*0 \.\. 14 "):
            ops.max_pool2d_backward(dy, indices, (2, 3, 5, 2))


@pytest.mark.parametrize("pool_padding", ["same", "valid"])
def test_every_window_knows_its_bytes(rng, pool_padding):
    """A map of 5 x 3: windows of 2 x 2, and in SAME of 1 x 2, 2 x 1 and 1 x 1."""
    x, weight = integers(rng, 2, 5, 3, 2), integers(rng, 1, 1, 2, 3)
    how = {"pool_padding": pool_padding, "relu": False}
    y, where = ops.conv_pool(x, weight, return_where=True, **how)
    for at in np.ndindex(y.shape):
        rows, cols = (min(2, size - 2 * p) for size, p in zip((5, 3), at[1:3], strict=True))
        for byte in (0, 1, 2, 3, 4, 128, 255):
            named = where.copy()
            named[at] = byte
            inside = byte < 4 and byte // 2 < rows and byte % 2 < cols
            if inside:
                got = ops.conv_pool_backward(np.ones_like(y), y, named, x, weight, **how)
                pixel = (at[0], 2 * at[1] + byte // 2, 2 * at[2] + byte % 2)
                assert np.isfinite(got.dx[pixel]).all()
            else:
                place = rf"holds {byte} at \({', '.join(map(str, at))}\).*\({rows}, {cols}\)"
                with pytest.raises(ValueError, match=place):
                    ops.conv_pool_backward(np.ones_like(y), y, named, x, weight, **how)


def test_a_window_as_large_as_the_image_fits_and_a_larger_one_does_not():
    x = np.ones((1, 4, 6, 2), np.float32)
    assert ops.conv2d(x, np.ones((4, 6, 2, 1), np.float32)).shape == (1, 1, 1, 1)
    assert ops.max_pool2d(x, (4, 6)).shape == (1, 1, 1, 2)
    for rows, cols in ((5, 6), (4, 7)):
        with pytest.raises(ValueError, match="4 x 6"):
            ops.conv2d(x, np.ones((rows, cols, 2, 1), np.float32))
        with pytest.raises(ValueError, match=r"\(4, 6\)"):
            ops.max_pool2d(x, (rows, cols))
    # A dilated window covers dilation * (taps - 1) + 1 pixels.
    x, weight = np.ones((1, 5, 4, 1), np.float32), np.ones((3, 2, 1, 1), np.float32)
    assert ops.conv2d(x, weight, dilation=(2, 3)).shape == (1, 1, 1, 1)
    with pytest.raises(ValueError, match="7 x 4"):
        ops.conv2d(x, weight, dilation=(3, 3))


@pytest.mark.parametrize("side", range(4))
def test_the_rim_of_a_pool_is_smaller_than_its_window_on_every_side(side):
    x = np.full((1, 4, 6, 1), -2, np.float32)
    window = (2, 3)
    rim = [0, 0, 0, 0]
    rim[side] = window[side // 2] - 1
    pads = (tuple(rim[:2]), tuple(rim[2:]))
    y = ops.max_pool2d(x, window, stride=1, padding=pads)
    assert (y == -2).all()
    rim[side] += 1
    pads = (tuple(rim[:2]), tuple(rim[2:]))
    with pytest.raises(ValueError, match=r"padding.*\(2, 3\)"):
        ops.max_pool2d(x, window, stride=1, padding=pads)


def test_neighbours_in_memory_are_apart_and_an_element_shared_is_not(rng):
    room = integers(rng, 60)
    a, b = room[:20], room[20:40]
    np.testing.assert_array_equal(ops.relu(a, out=b), np.maximum(a, 0))  # they touch
    np.testing.assert_array_equal(ops.relu(b, out=a), np.maximum(b, 0))
    for start in (1, 19, 21, 39):
        if start <= 19:
            with pytest.raises(ValueError, match="shares memory"):
                ops.relu(room[:20], out=room[start : start + 20])
        else:
            with pytest.raises(ValueError, match="shares memory"):
                ops.relu(room[start : start + 20], out=room[20:40])


def test_what_lies_across_what_is_read_is_refused(rng):
    """Shifted by one row; the very same array is fine where each element is read first."""
    room = integers(rng, 3, 4, 4)
    one, other = room[:2], room[1:]
    vector = np.ones(4, np.float32)
    x, weight = integers(rng, 1, 2, 4, 4), integers(rng, 1, 1, 4, 4)
    norm = (one, vector, vector, vector, vector)
    calls = (
        lambda: ops.conv2d(x, weight, residual=one[None], out=other[None]),
        lambda: ops.batch_norm_inference(*norm, out=other),
        lambda: ops.relu_backward(integers(rng, 2, 4, 4), one, out=other),
        lambda: ops.add(one, one, out=other),
        lambda: ops.affine(one, 2, 0, out=other),
    )
    for call in calls:
        with pytest.raises(ValueError, match="shares memory"):
            call()
    residual = one[None].copy()
    exact = ops.conv2d(x, weight) + residual
    np.testing.assert_array_equal(ops.conv2d(x, weight, residual=residual, out=residual), exact)


@pytest.mark.parametrize("role", [1, 2, 3])
def test_a_step_of_all_parameters_takes_no_array_twice(rng, role):
    """It answers False with nothing changed, and the caller says which array it is."""
    for other in range(4):
        roles = [[np.abs(integers(rng, 5)) + 1] for _ in range(4)]
        if other != role:
            roles[role][0] = roles[other][0]
        before = [array[0].copy() for array in roles]
        fits = _pycnn.adam_all(roles, [0.0], 1, 0.1, 0.9, 0.99, 1e-8)
        assert fits == (other == role)
        if not fits:
            for array, same in zip(roles, before, strict=True):
                np.testing.assert_array_equal(array[0], same)


def test_a_map_of_one_row_or_column_has_no_window():
    for H, W in ((3, 4), (4, 3), (4, 4)):
        x, weight = np.ones((1, H, W, 2), np.float32), np.ones((3, 3, 2, 1), np.float32)
        if (H, W) == (4, 4):
            assert ops.conv_pool(x, weight).shape == (1, 1, 1, 1)
        else:
            with pytest.raises(ValueError, match="too few for a window of 2 x 2"):
                ops.conv_pool(x, weight)
        assert ops.conv_pool(x, weight, pool_padding="same").shape == (1, 1, 1, 1)


def test_sizes_must_add_up_to_the_channels():
    x = np.arange(10, dtype=np.float32).reshape(2, 5)
    np.testing.assert_array_equal(np.concatenate(ops.split(x, [2, 3]), axis=1), x)
    for sizes in ([2, 2], [3, 3]):
        with pytest.raises(ValueError, match=f"add up to {sum(sizes)}; expected 5"):
            ops.split(x, sizes)


def test_as_many_pixels_as_int32_counts():
    assert ops.pool2d_output_shape((1, 2**31 - 1, 1, 1), 1) == (1, 2**31 - 1, 1, 1)
    with pytest.raises(ValueError, match="2147483648 pixels"):
        ops.pool2d_output_shape((1, 2**16, 2**15, 1), 1)


@pytest.mark.parametrize("shape", [(2, 1, 1, 1), (1, 1, 1, 2), (1, 2, 1, 1), (1, 2, 2, 2)])
def test_indices_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match="indices has shape"):
        _pycnn.max_pool2d_backward(
            np.zeros((1, 3, 3, 1), np.float32),
            np.zeros((1, 1, 1, 1), np.float32),
            np.zeros(shape, np.int32),
        )


def test_the_larger_tile_only_where_it_saves_products():
    """6 x 6 takes 144 products in tiles of either size, 7 x 7 fewer in the larger."""
    for size, tile in (((6, 6), "F(2x2"), ((7, 7), "F(4x4"), ((8, 4), "F(4x4"), ((6, 5), "F(2x2")):
        explained = pycnn.explain_conv2d((400, *size, 64), (3, 3, 64, 64), padding=1)
        assert explained.forward == "winograd"
        assert tile in str(explained), size


def test_the_last_class_and_the_last_image():
    logits = np.zeros((2, 4), np.float32)
    assert ops.softmax_cross_entropy(logits, np.array([3, 0]))[1][0, 3] == np.float32(-0.375)
    for wrong in (4, -1):
        with pytest.raises(ValueError, match=rf"labels\[1\] is {wrong}.*0 \.\. 3"):
            ops.softmax_cross_entropy(logits, np.array([3, wrong]))
    pixels = np.arange(3 * 2 * 5, dtype=np.uint8).reshape(3, 2, 5, 1)
    for function in (
        lambda i: ops.gather_images(pixels, np.array([0, i]), scale=1.0),
        lambda i: ops.augment_images(pixels, np.array([0, i]), seed=0, epoch=0),
    ):
        assert function(2).shape == (2, 2, 5, 1)
        for wrong in (3, -1):
            with pytest.raises((ValueError, IndexError), match=str(wrong)):
                function(wrong)
    np.testing.assert_array_equal(ops.gather_images(pixels, np.array([2]), scale=1.0)[0], pixels[2])


def test_same_padding_of_unlike_axes():
    """Of an odd total the extra pixel comes after, on each axis by itself."""
    for stride, dilation in (
        ((1, 2), (1, 1)),
        ((2, 1), (2, 1)),
        ((3, 2), (1, 3)),
        ((1, 1), (1, 2)),
    ):
        explained = pycnn.explain_conv2d(
            (1, 9, 14, 2), (4, 2, 2, 3), padding="same", stride=stride, dilation=dilation
        )
        sides = reference.four_sides("same", (9, 14), (4, 2), stride, dilation)
        assert explained.padding == sides
        windows = reference.Windows((9, 14), (4, 2), stride, sides, dilation)
        assert explained.output_shape == (1, windows.OH, windows.OW, 3)


# ---- what changes after a network was compiled --------------------------------------------------


def test_a_compiled_network_follows_what_is_set_later(rng):
    """Precision and instruction set, there and back: the filters of each are kept apart."""
    x = integers(rng, 3, 9, 14, 16)
    weight, bias = integers(rng, 3, 3, 16, 35), integers(rng, 35)
    built = Built([(9, 14, 16)])
    y = built.conv2d(0, weight, bias, relu=True)
    pooled = built.conv2d(0, weight, bias, pool="same")
    before = pycnn.isa(), pycnn.get_precision()
    try:
        for first in ("fast", "exact"):
            pycnn.set_precision(first)
            network = built.network([y, pooled])
            for precision in ("exact", "fast", "exact"):
                for isa in pycnn.available_isas():
                    pycnn.use_isa(isa)
                    pycnn.set_precision(precision)
                    how = {"padding": "same", "algorithm": "winograd"}
                    expected = ops.conv2d(x, weight, bias, activation="relu", **how)
                    small = ops.conv_pool(x, weight, bias, relu=False, pool_padding="same", **how)
                    for got, same in zip(network(x), (expected, small), strict=True):
                        np.testing.assert_array_equal(
                            got, same, err_msg=f"{first}, {precision}, {isa}"
                        )
    finally:
        pycnn.use_isa(before[0])
        pycnn.set_precision(before[1])

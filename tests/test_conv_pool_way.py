"""Which way the gradients of conv_pool go, by the shape."""

import _pycnn


def way(H, W, C, OC, *, relu=True, wants_dx=True, kernel=3):
    pad = (kernel // 2,) * 4
    conv = _pycnn.Conv2dShape((1, H, W, C), (kernel, kernel, C, OC), (1, 1), pad, (1, 1), 1, False)
    return _pycnn.ConvPoolShape(conv, True, relu).way_back(wants_dx)


def test_lists_that_int32_cannot_count_are_left_to_the_dense_way():
    """Shapes alone: a list of 2**31 numbers, or an image of as many, would take 8 GB.

    With 15 channels there is no Winograd, which takes large images from the lists."""
    assert way(14, 14, 32, 64) == "sparse"
    assert way(4096, 4096, 15, 511) == "sparse"
    assert way(4096, 4096, 15, 512) == "dense"  # 2048 * 2048 windows, 512 channels
    assert way(11964, 11964, 15, 15) == "dense"  # 11966 * 11966 pixels, 15 channels
    assert way(11962, 11962, 15, 15) == "sparse"
    assert way(70_000, 70_000, 1, 16, wants_dx=False) == "one_channel"


def test_lists_end_where_an_image_leaves_the_caches():
    """2 MB of image for dx and 4 MB for dweight, where the dense way has Winograd."""
    assert way(128, 128, 32, 32) == "sparse"
    assert way(128, 129, 32, 32) == "sparse_dweight"
    assert way(128, 129, 32, 32, wants_dx=False) == "sparse"
    assert way(256, 128, 32, 32) == "sparse_dweight"
    for wants_dx in (True, False):
        assert way(257, 128, 32, 32, wants_dx=wants_dx) == "dense"
        assert way(257, 128, 32, 32, wants_dx=wants_dx, kernel=5) == "sparse"


def test_without_relu_winograd_takes_dx():
    assert way(14, 14, 32, 64, relu=False) == "sparse_dweight"
    assert way(14, 14, 32, 64, relu=False, wants_dx=False) == "sparse"

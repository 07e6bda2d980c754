"""Which way the gradients of conv_pool go, by the shape."""

import _pycnn


def test_lists_that_int32_cannot_count_are_left_to_the_dense_way():
    """Shapes alone: a list of 2**31 numbers, or an image of as many, would take 8 GB."""

    def way(H, W, C, OC, wants_dx=True):
        conv = _pycnn.Conv2dShape(
            (1, H, W, C), (3, 3, C, OC), (1, 1), (1, 1, 1, 1), (1, 1), 1, False
        )
        return _pycnn.ConvPoolShape(conv, True, True).way_back(wants_dx)

    assert way(14, 14, 32, 64) == "sparse"
    assert way(4096, 4096, 16, 511) == "sparse"
    assert way(4096, 4096, 16, 512) == "dense"  # 2048 * 2048 windows, 512 channels
    assert way(8190, 8190, 32, 16) == "dense"  # 8192 * 8192 pixels, 32 channels
    assert way(8000, 8000, 32, 16) == "sparse"
    assert way(70_000, 70_000, 1, 16, wants_dx=False) == "one_channel"

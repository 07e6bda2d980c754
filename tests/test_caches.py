"""The caches of the machine: how they are found, and that they change no bit of any result."""

import _pycnn
import numpy as np
import pytest

import pycnn
from pycnn import ops

KB, MB = 2**10, 2**20
# The shares of some machine, and what moves every block: a large L2 beside a small L3, and so on.
SIZES = [
    (256 * KB, MB),
    (512 * KB, 64 * MB),
    (MB, 32 * MB),
    (4 * MB, 3 * MB),
    (300 * KB, 7000 * KB),
]


def folder(path, *caches):
    """A folder of sysfs with caches (level, type, size, CPUs that share it)."""
    for i, cache in enumerate(caches):
        index = path / f"index{i}"
        index.mkdir(parents=True)
        for name, text in zip(("level", "type", "size", "shared_cpu_list"), cache, strict=True):
            (index / name).write_text(f"{text}\n")
    return str(path)


L1 = [(1, "Data", "48K", "0,64"), (1, "Instruction", "32K", "0,64")]


@pytest.mark.parametrize(
    ("caches", "expected"),
    [
        (
            [*L1, (2, "Unified", "512K", "0,64"), (3, "Unified", "16384K", "0-7,64-71")],
            (512, 16384),
        ),
        ([*L1, (2, "Unified", "2M", "0,64"), (3, "Unified", "24M", "0-5,64-69")], (2048, 24576)),
        # four cores of two threads share L2; a cache of instructions is none of ours
        ([*L1, (2, "Unified", "8M", "0-3,64-67"), (2, "Instruction", "1M", "0")], (2048, 32768)),
        # less, or more, than a core has
        ([*L1, (2, "Unified", "16K", "0,64"), (3, "Unified", "256K", "0")], (256, 1024)),
        ([(2, "Unified", "16M", "0"), (3, "Unified", "512M", "0-95")], (4096, 65536)),
        # nothing to read, or nonsense
        ([], (1024, 32768)),
        ([(2, "Unified", "lots", "0"), (3, "Unified", "-4M", ""), (3, "Unified", "8G", "0")], None),
        ([(2, "Unified", "1024", "0"), (3, "Unified", "0K", "0")], None),
        # sharers that cannot be: L2 is whole
        (
            [(1, "Data", "32K", "0-3"), (2, "Unified", "512K", "0"), (3, "Unified", "4M", "x")],
            (512, 4096),
        ),
    ],
)
def test_caches_are_found(tmp_path, caches, expected):
    l2, l3 = expected or (1024, 32768)
    assert _pycnn.read_caches(folder(tmp_path, *caches)) == (l2 * KB, l3 * KB)


def test_they_are_those_of_this_machine():
    assert _pycnn.caches() == _pycnn.read_caches("/sys/devices/system/cpu/cpu0/cache")
    l2, l3 = _pycnn.caches()
    assert f"caches: L2 {l2 // KB} KB of a core, L3 {l3 // KB} KB" in pycnn.show_config()


def convolution(x, kernel, OC, **options):
    shape = (*kernel, x[3] // options.get("groups", 1), OC)

    def run(rng):
        image, weight, bias = (rng.standard_normal(s, np.float32) for s in (x, shape, (OC,)))
        y = ops.conv2d(image, weight, bias, activation="relu", **options)
        dy = rng.standard_normal(y.shape, np.float32)
        dx = ops.conv2d_backward_input(dy, weight, x, **options)
        return y, dx, ops.conv2d_backward_weight(image, dy, shape, **options)

    return run


def pooled(rng):
    x, w, b = (rng.standard_normal(s, np.float32) for s in ((9, 30, 27, 24), (3, 3, 24, 40), (40,)))
    y, where = ops.conv_pool(x, w, b, padding="same", algorithm="direct", return_where=True)
    return y, where, *ops.conv_pool_backward(y, y, where, x, w, padding="same")


def normed(rng):
    x, w, g = (rng.standard_normal(s, np.float32) for s in ((3, 31, 29, 24), (1, 1, 24, 64), (64,)))
    y, z, mean, var = ops.conv2d_norm(x, w, g, g, activation="relu")
    return y, z, *ops.conv2d_norm_backward(y, z, x, w, g, g, mean, var, activation="relu")


def norm_alone(rng):
    x, g = (rng.standard_normal(s, np.float32) for s in ((5, 41, 23, 48), (48,)))
    y, mean, var = ops.batch_norm(x, g, g)
    return y, *ops.batch_norm_backward(y, x, g, g, mean, var)


def maps(rng):
    x = rng.standard_normal((3, 61, 53, 32), np.float32)
    y, where = ops.max_pool2d(x, 2, return_indices=True)
    mean = ops.avg_pool2d(x, 3, stride=1, padding=1)
    return (
        *(y, where, mean, ops.softmax(x.reshape(-1, 53 * 32)), ops.relu(x)),
        ops.max_pool2d_backward(y, where, x.shape),
        ops.avg_pool2d_backward(mean, x.shape, 3, stride=1, padding=1),
    )


def product(rng):
    a, b = (rng.standard_normal(s, np.float32) for s in ((499, 700), (700, 1100)))
    return (ops.matmul(a, b),)


CASES = {
    "direct": convolution((5, 40, 37, 48), (3, 3), 48, padding=1, algorithm="direct"),
    "direct, stride": convolution((6, 41, 38, 32), (3, 3), 64, stride=2, algorithm="direct"),
    "direct, few pixels": convolution((3, 7, 6, 128), (3, 3), 144, padding=1, algorithm="direct"),
    "direct, 1x1": convolution((3, 44, 39, 64), (1, 1), 80, algorithm="direct"),
    "winograd by tiles": convolution((3, 37, 42, 32), (3, 3), 48, padding=1, algorithm="winograd"),
    "winograd by parts": convolution(
        (2, 15, 22, 272), (3, 3), 304, padding=1, algorithm="winograd"
    ),
    "im2col": convolution((4, 21, 18, 24), (3, 3), 40, padding=1, algorithm="im2col"),
    "few channels": convolution((3, 67, 61, 3), (3, 3), 32, padding=1, algorithm="few_channels"),
    "depthwise": convolution((3, 43, 38, 64), (3, 3), 64, padding=1, groups=64),
    "depthwise, stride": convolution((4, 67, 71, 48), (3, 3), 48, padding=1, stride=2, groups=48),
    "grouped": convolution((3, 29, 38, 64), (3, 3), 64, padding=1, groups=8),
    "product": product,
    "conv_pool": pooled,
    "conv2d_norm": normed,
    "batch_norm": norm_alone,
    "maps": maps,
}


@pytest.mark.parametrize("name", CASES)
def test_they_change_no_bits(isa, num_threads, small_caches, name):
    found = []
    for l2, l3 in SIZES:
        _pycnn.set_caches(l2, l3)
        results = CASES[name](np.random.default_rng(3))
        found.append([np.asarray(result).tobytes() for result in results])
    assert all(one == found[0] for one in found)

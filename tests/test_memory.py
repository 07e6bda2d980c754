"""Memory that calls leave behind: bounded for each thread, and given back by pycnn.trim()."""

import os
import subprocess
import sys
import textwrap

import pytest

HEAD = """
import numpy as np, pycnn
from pycnn import layers, ops

def resident():  # MB
    fields = open("/proc/self/statm").read().split()
    return int(fields[1]) * 4096 / 1e6

def kept(call):
    call(1)  # code, threads and libraries
    pycnn.trim()
    before = resident()
    call(8)
    after = resident()
    pycnn.trim()
    return after - before, resident() - before
"""


def run(code):
    done = subprocess.run(
        [sys.executable, "-c", HEAD + textwrap.dedent(code)],
        capture_output=True,
        text=True,
        check=False,
        # NumPy's arrays go back to the system when they are freed, so what stays is pycnn's
        env={**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0"},
    )
    assert done.returncode == 0, done.stderr
    return [float(word) for word in done.stdout.split()]


@pytest.mark.parametrize(
    "call",
    [
        # 103 MB for the gradient behind relu
        """
        def call(N):
            x, w = np.ones((N, 112, 112, 16), np.float32), np.ones((1, 1, 16, 256), np.float32)
            y = np.ones((N, 112, 112, 256), np.float32)
            ops.conv2d_relu_backward(y, y, x, w)
        """,
        # 100 MB for the maps behind a pool, with a stride
        """
        def call(N):
            x, w = np.ones((N, 112, 112, 4), np.float32), np.ones((2, 2, 4, 256), np.float32)
            options = {"stride": 1, "dilation": 2, "padding": "same"}
            y, where = ops.conv_pool(x, w, return_where=True, **options)
            ops.conv_pool_backward(y, y, where, x, w, **options)
        """,
        # 51 MB of transformed weights
        """
        def call(N):
            x, w = np.ones((N, 16, 16, 512), np.float32), np.ones((3, 3, 512, 512), np.float32)
            ops.conv2d(x, w, padding=1, algorithm="winograd")
        """,
    ],
    ids=["relu", "pool", "winograd"],
)
def test_a_large_call_keeps_no_more_than_40_mb(call):
    after, trimmed = run(textwrap.dedent(call) + "\nprint(*kept(call))")
    assert after < 40
    assert trimmed < 8


def test_a_compiled_network_keeps_no_large_arena():
    after, trimmed = run("""
        model = layers.Sequential(layers.Conv2d(4, 64, 1), layers.ReLU(), layers.Conv2d(64, 4, 1))
        compiled = model.compile_inference((None, 512, 512, 4))
        print(*kept(lambda N: compiled(np.ones((1, 512, 512, 4), np.float32))))
    """)
    assert after < 40
    assert trimmed < 8


def test_small_calls_find_their_memory_again():
    first, again = run("""
        import resource
        x, w = np.ones((4, 56, 56, 64), np.float32), np.ones((3, 3, 64, 64), np.float32)
        y = ops.conv2d(x, w, padding=1)
        ops.conv2d(x, w, padding=1, out=y)  # the first call's blocks have become one
        def faults():
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            for _ in range(20):
                ops.conv2d(x, w, padding=1, out=y)
            return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
        warm = faults()
        pycnn.trim()
        print(warm, faults())
    """)
    assert first < 50 < again

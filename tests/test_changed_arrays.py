"""Arrays that another thread changes during a call: an answer or a sentence, never a crash."""

import os
import subprocess
import sys

import numpy as np
import pytest

import pycnn
from pycnn import ops

# name: what is called in a loop, `array` whose last numbers another thread sets to `bad` and back.
CALLS = {
    "softmax_cross_entropy": (
        "x = np.ones((20_000, 64), np.float32)\n"
        "array, bad = np.zeros(20_000, np.int64), 10**12\n"
        "def call(): ops.softmax_cross_entropy(x, array)\n"
    ),
    "gather_images": (
        "x = np.ones((100, 28, 28, 1), np.uint8)\n"
        "array, bad = np.zeros(4_000, np.int64), 10**12\n"
        "def call(): ops.gather_images(x, array)\n"
    ),
    "augment_images": (
        "x = np.ones((100, 28, 28, 1), np.uint8)\n"
        "array, bad = np.zeros(4_000, np.int64), 10**12\n"
        "def call(): ops.augment_images(x, array, seed=1, epoch=1, shift=1.0)\n"
    ),
    "max_pool2d_backward": (
        "dy = np.ones((8, 60, 60, 64), np.float32)\n"
        "array, bad = np.zeros(dy.shape, np.int32), 2**31 - 1\n"
        "def call(): ops.max_pool2d_backward(dy, array, (8, 120, 120, 64))\n"
    ),
    "conv_pool_backward": (
        "x, weight = np.ones((4, 28, 28, 32), np.float32), np.ones((3, 3, 32, 64), np.float32)\n"
        "y, array = ops.conv_pool(x, weight, padding='same', return_where=True)\n"
        "bad = 255\n"
        "def call(): ops.conv_pool_backward(y, y, array, x, weight, padding='same')\n"
    ),
}
PROGRAM = """
import threading, time
import numpy as np
from pycnn import ops

{call}
last, stop = array.reshape(-1)[-64:], threading.Event()

def change():
    while not stop.is_set():
        last[:] = bad
        last[:] = 0

threading.Thread(target=change, daemon=True).start()
end = time.perf_counter() + {seconds}
while time.perf_counter() < end:
    try:
        call()
    except (ValueError, IndexError) as error:
        assert "expected" in str(error), error
stop.set()
"""


@pytest.mark.parametrize("name", CALLS)
def test_an_array_that_changes_during_the_call(name):
    """In a process of its own, which may die."""
    path = os.path.dirname(os.path.dirname(pycnn.__file__))
    code = f"import sys; sys.path.insert(0, {path!r})\n" + PROGRAM.format(
        call=CALLS[name], seconds=0.5
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120
    )
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("C", [1, 8, 3000])
@pytest.mark.parametrize("where", [0, 700, -1])
@pytest.mark.parametrize("bad", [16, -1, 2**31 - 1, -(2**31)])
def test_the_loop_of_a_pool_refuses_what_it_uses(C, where, bad):
    """Wherever the index stands among those that are checked together."""
    dy = np.ones((3, 20, 20, C), np.float32)
    indices = np.zeros(dy.shape, np.int32)
    ops.max_pool2d_backward(dy, indices, (3, 4, 4, C))
    indices.reshape(-1)[where] = bad
    with pytest.raises(ValueError, match=rf"indices holds {bad}; expected .* 0 \.\. 15"):
        ops.max_pool2d_backward(dy, indices, (3, 4, 4, C))

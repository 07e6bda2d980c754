"""A program: threads compute while another one calls use_isa, over and over.

It ends with 1 if a result has not the bits of one instruction set. `test_use_isa.py` runs it in a
process of its own, since a buffer of one instruction set filled by another corrupts the heap.
"""

import functools
import sys
import threading

import numpy as np

import pycnn
from pycnn import layers, ops

ROUNDS = 25
COMPUTING = 2  # one would always let use_isa in; two keep it out if it does not queue


def calls():
    """{name: function of no arguments}; sizes that fill no tile of any instruction set."""
    rng = np.random.default_rng(11)
    x = rng.standard_normal((3, 13, 11, 20), np.float32)
    weight = rng.standard_normal((3, 3, 20, 37), np.float32)
    bias = rng.standard_normal(37, np.float32)
    a, b = rng.standard_normal((61, 133), np.float32), rng.standard_normal((133, 150), np.float32)
    same = {"padding": "same"}
    y = ops.conv2d(x, weight, **same)
    pooled, where = ops.conv_pool(x, weight, bias, return_where=True, **same)
    model = layers.Sequential(
        layers.Conv2d(20, 37, 3, padding="same"),
        layers.ReLU(),
        layers.MaxPool2d(2),
        layers.Flatten(),
        layers.Linear(6 * 5 * 37, 10),
    )
    compiled = model.eval().compile_inference(x.shape)
    found = {
        "matmul": lambda: ops.matmul(a, b),
        "conv_pool": lambda: ops.conv_pool(x, weight, bias, **same),
        "conv_pool_backward": lambda: ops.conv_pool_backward(
            pooled, pooled, where, x, weight, **same
        ),
        "compiled": lambda: compiled(x),
        "softmax": lambda: ops.softmax(a),
    }
    for algorithm in ("direct", "winograd", "im2col"):
        how = {**same, "algorithm": algorithm}
        found[f"{algorithm}"] = functools.partial(ops.conv2d, x, weight, bias, **how)
        found[f"{algorithm}_input"] = functools.partial(
            ops.conv2d_backward_input, y, weight, x.shape, **how
        )
        found[f"{algorithm}_weight"] = functools.partial(
            ops.conv2d_backward_weight, x, y, weight.shape, **how
        )
    return found


def as_bytes(result):
    """The bits of an array, or of a tuple of them."""
    arrays = result if isinstance(result, tuple) else (result,)
    return b"".join(array.tobytes() for array in arrays)


def main():
    """Compute alone with each instruction set, then all at once."""
    pycnn.set_num_threads(2)
    found = calls()
    expected = {name: set() for name in found}
    for isa in pycnn.available_isas():
        pycnn.use_isa(isa)
        for name, call in found.items():
            expected[name].add(as_bytes(call()))
    wrong = []

    def compute():
        try:
            for _ in range(ROUNDS):
                for name, call in found.items():
                    if as_bytes(call()) not in expected[name]:
                        wrong.append(name)
        except BaseException as error:
            wrong.append(repr(error))
            raise

    threads = [threading.Thread(target=compute) for _ in range(COMPUTING)]
    for thread in threads:
        thread.start()
    switches = 0
    while any(thread.is_alive() for thread in threads):
        for isa in pycnn.available_isas():
            pycnn.use_isa(isa)
            switches += 1
    for thread in threads:
        thread.join()
    print(f"{switches} switches; wrong: {sorted(set(wrong))}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

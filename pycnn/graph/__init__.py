"""Networks as programs: tracing, fusion, memory, running, compiling.

    values.py   symbolic arrays, the calls that make them, tracing
    program.py  the calls in order, as data that prints
    fuse.py     the table of patterns that one operator computes
    memory.py   which arrays share memory
    plan.py     steps, a place for every array, the order of backward
    run.py      the loops, on one arena
    compile.py  fixed weights in one call of C++

It knows no layer: what it asks of one stands in `pycnn.layers.Layer`.
"""

from pycnn.graph.program import Program
from pycnn.graph.values import Node, Value

__all__ = ["Node", "Program", "Value"]

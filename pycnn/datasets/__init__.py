"""MNIST, inside the package, and any other folder of IDX files of its shape.

`load_mnist` gives the bytes, `load_npz` those of NumPy's files; `read_data_sets` is the lecture's
object, with floats and `next_batch`. A file that is not exactly right is an `IdxError` (a
`FileError` for .npz), never a part of a data set.
"""

from pycnn.datasets.idx import IdxError
from pycnn.datasets.lecture import DataSet, DataSets, read_data_sets
from pycnn.datasets.mnist import Split, Splits, load_mnist
from pycnn.datasets.npz import load_npz

__all__ = [
    "DataSet",
    "DataSets",
    "IdxError",
    "Split",
    "Splits",
    "load_mnist",
    "load_npz",
    "read_data_sets",
]

"""MNIST, inside the package, and other sets of images in files.

`load_mnist` gives the bytes, `load_idx` those of images of any size, `load_cifar10` CIFAR-10's,
`load_npz` what NumPy's files hold; `read_data_sets` is the lecture's object, with floats and
`next_batch`. A file that is not exactly right is an `IdxError` (a `FileError` for .npz and
CIFAR-10), never a part of a data set.
"""

from pycnn.datasets.cifar import load_cifar10
from pycnn.datasets.idx import IdxError
from pycnn.datasets.lecture import DataSet, DataSets, read_data_sets
from pycnn.datasets.mnist import Split, Splits, classes_of, load_idx, load_mnist
from pycnn.datasets.npz import load_npz

__all__ = [
    "DataSet",
    "DataSets",
    "IdxError",
    "Split",
    "Splits",
    "classes_of",
    "load_cifar10",
    "load_idx",
    "load_mnist",
    "load_npz",
    "read_data_sets",
]

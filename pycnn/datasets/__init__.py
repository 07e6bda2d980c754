"""MNIST, inside the package, and other sets of images in files.

`load_mnist` gives the bytes, `load_idx` those of images of any size, `load_cifar10` CIFAR-10's,
`load_image_folder` pictures, `load_npz` what NumPy's files hold; `load_folder` finds out which;
`read_data_sets` is the lecture's object, with floats and `next_batch`. A file that is not exactly
right is an `IdxError` of IDX files, a `FileError` of others, never a part of a data set.
"""

from pycnn.datasets.cifar import load_cifar10
from pycnn.datasets.folder import ImageFolder, load_image_folder
from pycnn.datasets.idx import IdxError
from pycnn.datasets.kinds import load_folder
from pycnn.datasets.lecture import DataSet, DataSets, read_data_sets
from pycnn.datasets.mnist import Split, Splits, classes_of, load_idx, load_mnist
from pycnn.datasets.npz import load_npz

__all__ = [
    "DataSet",
    "DataSets",
    "IdxError",
    "ImageFolder",
    "Split",
    "Splits",
    "classes_of",
    "load_cifar10",
    "load_folder",
    "load_idx",
    "load_image_folder",
    "load_mnist",
    "load_npz",
    "read_data_sets",
]

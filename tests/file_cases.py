"""Arrays and metadata for files, and when arrays that were read are those that were written."""

import numpy as np

TENSORS = {
    "b": np.arange(6, dtype=np.float32).reshape(2, 3),
    "a": np.array([True, False]),
    "empty": np.zeros((0, 3), np.int64),
    "scalar": np.array(7, np.uint8),
    "nan": np.array([np.nan, np.inf, -0.0]),
}
METADATA = {"b": [1, None, "ü"], "a": {"y": 0.1, "x": 2**60}}


def assert_same(read, written):
    assert set(read) == set(written)
    for name, array in written.items():
        assert read[name].shape == array.shape
        assert read[name].dtype == array.dtype.newbyteorder("=")
        assert read[name].tobytes() == array.astype(array.dtype.newbyteorder("=")).tobytes()
        flags = read[name].flags
        assert flags.writeable
        assert flags.owndata
        assert flags.c_contiguous
        assert flags.aligned

"""Roundings: what `tolerance.py`, which tells why, and its parts count with."""

import numpy as np

EXP_ROUNDINGS = 4  # our exp and log are promised within 2 ulp, and one ulp is at most two roundings
TINY = 2.0**-126  # the smallest normal float32: a result below it may have lost its last bits


def unit_roundoff(dtype):
    return float(np.finfo(dtype).eps) / 2


def gamma(k, dtype=np.float32):
    """The relative error of k operations; in float64 twice, as the reference rounds too."""
    u = unit_roundoff(dtype) * (1 if np.dtype(dtype) == np.float32 else 2)
    return k * u / (1 - k * u)

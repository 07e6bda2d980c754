"""pycnn: convolutional networks on a CPU, readable to the bottom.

`ops` are pure functions on NumPy arrays, computed by C++ kernels with SIMD and OpenMP; `layers`,
`losses`, `optim`, `init` and `models` are the thin Python layer on them; `datasets` holds MNIST.
"""

from pycnn import _stale

_stale.check()

from _pycnn import __version__  # noqa: E402

from pycnn import datasets, init, layers, losses, models, ops, optim  # noqa: E402
from pycnn._config import (  # noqa: E402
    available_isas,
    get_num_threads,
    isa,
    num_threads,
    set_num_threads,
    show_config,
    use_isa,
)
from pycnn._ops_conv2d import get_precision, set_precision  # noqa: E402
from pycnn.ops import explain_conv2d  # noqa: E402

__all__ = [
    "__version__",
    "available_isas",
    "datasets",
    "explain_conv2d",
    "get_num_threads",
    "get_precision",
    "init",
    "isa",
    "layers",
    "losses",
    "models",
    "num_threads",
    "ops",
    "optim",
    "set_num_threads",
    "set_precision",
    "show_config",
    "use_isa",
]

"""pycnn: convolutional networks on a CPU, readable to the bottom.

`ops` are pure functions on NumPy arrays, computed by C++ kernels with SIMD and OpenMP; `layers`,
`losses`, `optim`, `init` and `models` are the thin Python layer on them; `datasets` holds MNIST.
"""

from pycnn import _stale, _waiting

with _waiting.short_spin() as _decides:
    _stale.check()  # loads _pycnn, and libgomp with it

from _pycnn import __version__

from pycnn import (
    _config,
    datasets,
    init,
    layers,
    losses,
    modelfile,
    models,
    ops,
    optim,
    preprocessing,
)
from pycnn._config import (
    available_isas,
    get_num_threads,
    isa,
    num_threads,
    set_num_threads,
    show_config,
    use_isa,
)
from pycnn._files import FileError
from pycnn._ops_conv2d import get_precision, set_precision
from pycnn.modelfile import load_model, save_model
from pycnn.ops import explain_conv2d

_config.remember_who_decides(_decides)

__all__ = [
    "FileError",
    "__version__",
    "available_isas",
    "datasets",
    "explain_conv2d",
    "get_num_threads",
    "get_precision",
    "init",
    "isa",
    "layers",
    "load_model",
    "losses",
    "modelfile",
    "models",
    "num_threads",
    "ops",
    "optim",
    "preprocessing",
    "save_model",
    "set_num_threads",
    "set_precision",
    "show_config",
    "use_isa",
]

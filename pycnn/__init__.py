"""pycnn: convolutional networks on a CPU, readable to the bottom.

`ops` are pure functions on NumPy arrays, computed by C++ kernels with SIMD and OpenMP; `layers`,
`losses`, `metrics`, `optim`, `init` and `models` are the thin Python layer on them; `datasets`
holds MNIST. `Trainer` with `callbacks`, `schedules`, `augment` and `recipes` is the training loop;
`save_model`, `load_model`, `checkpoint`, `interop` and `onnx` are files; `plots`, `report` and
`sklearn` draw and search. Of these `onnx`, `plots`, `report`, `predict` and `sklearn` need extras.
"""

from typing import TYPE_CHECKING, Any

from pycnn._runtime import freshness, startup, waiting

try:
    with waiting.short_spin() as _decides:
        freshness.check()  # loads _pycnn, and libgomp with it
    from pycnn._runtime import machine
except ImportError as _error:
    startup.end_command(_error)
    raise

from _pycnn import __version__

from pycnn import init, ops
from pycnn._runtime.machine import (
    available_isas,
    get_num_threads,
    isa,
    num_threads,
    set_num_threads,
    show_config,
    trim,
    use_isa,
)
from pycnn.init import seed
from pycnn.ops import explain_conv2d
from pycnn.ops.conv2d import get_precision, set_precision

if TYPE_CHECKING:
    from pycnn import (
        augment,
        callbacks,
        checkpoint,
        datasets,
        interop,
        layers,
        losses,
        metrics,
        modelfile,
        models,
        onnx,
        optim,
        plots,
        predict,
        preprocessing,
        ranks,
        recipes,
        report,
        schedules,
        testing,
    )
    from pycnn._formats.files import FileError
    from pycnn.modelfile import load_model, save_model
    from pycnn.trainer import History, Trainer

machine.remember_who_decides(_decides)

# Imported at their first use: `import pycnn` stays fast, and extras are needed only there.
_MODULES = (
    "augment", "callbacks", "checkpoint", "datasets", "graph", "interop", "layers", "losses",
    "metrics", "modelfile", "models", "onnx", "optim", "plots", "predict", "preprocessing", "ranks",
    "recipes", "report", "schedules", "sklearn", "testing",
)  # fmt: skip
_HOMES = {
    "FileError": "_formats.files",
    "History": "trainer",
    "Trainer": "trainer",
    "load_model": "modelfile",
    "save_model": "modelfile",
}


def __getattr__(name: str) -> Any:
    import importlib

    if name in _MODULES:
        return importlib.import_module(f"pycnn.{name}")
    if name in _HOMES:
        return getattr(importlib.import_module(f"pycnn.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'pycnn' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES, *_HOMES})


# Without sklearn, so that `from pycnn import *` works where scikit-learn is not installed.
__all__ = [
    "FileError",
    "History",
    "Trainer",
    "__version__",
    "augment",
    "available_isas",
    "callbacks",
    "checkpoint",
    "datasets",
    "explain_conv2d",
    "get_num_threads",
    "get_precision",
    "init",
    "interop",
    "isa",
    "layers",
    "load_model",
    "losses",
    "metrics",
    "modelfile",
    "models",
    "num_threads",
    "onnx",
    "ops",
    "optim",
    "plots",
    "predict",
    "preprocessing",
    "ranks",
    "recipes",
    "report",
    "save_model",
    "schedules",
    "seed",
    "set_num_threads",
    "set_precision",
    "show_config",
    "testing",
    "trim",
    "use_isa",
]

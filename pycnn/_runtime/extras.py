"""Optional libraries: loaded when they are needed, with the line to type if they are missing."""

from __future__ import annotations

import importlib
from types import ModuleType

DISTRIBUTIONS = {"PIL": "Pillow", "sklearn": "scikit-learn"}  # where a module's name is another


def need(module: str, extra: str, who: str) -> ModuleType:
    """The module, or an ImportError that says which extra of pycnn installs it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        if error.name is None or module.split(".")[0] != error.name.split(".")[0]:
            raise  # it is there, but something that it needs is not
        raise missing(error.name, extra, who) from error


def missing(module: str, extra: str, who: str) -> ImportError:
    """The error with the library's name and the line to type."""
    module = module.partition(".")[0]
    library = DISTRIBUTIONS.get(module, module)
    return ImportError(
        f"{who} needs {library}, which is not installed: pip install 'pycnn[{extra}]'.",
        name=module,
    )

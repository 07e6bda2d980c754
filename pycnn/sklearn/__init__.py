"""`CNNClassifier` and `CNNRegressor`: networks with scikit-learn's manners; extra "sklearn".

Only this package needs scikit-learn; `import pycnn` does not load it.
"""

from pycnn._runtime.extras import missing

try:
    import sklearn as _sklearn  # noqa: F401
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "sklearn":
        raise
    raise missing("sklearn", "sklearn", "pycnn.sklearn") from error

from pycnn.sklearn.base import default_model
from pycnn.sklearn.classifier import CNNClassifier
from pycnn.sklearn.regressor import CNNRegressor

__all__ = ["CNNClassifier", "CNNRegressor", "default_model"]

"""Models as ONNX files, for other programs and from them; extra "onnx".

`python -m pycnn.onnx model.onnx` prints what a file holds.
"""

from pycnn.onnx._export import export_onnx
from pycnn.onnx._import import import_onnx

__all__ = ["export_onnx", "import_onnx"]

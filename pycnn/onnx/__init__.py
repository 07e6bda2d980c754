"""Models as ONNX files, for other programs and from them; extra "onnx"."""

from pycnn.onnx._export import export_onnx
from pycnn.onnx._import import import_onnx

__all__ = ["export_onnx", "import_onnx"]

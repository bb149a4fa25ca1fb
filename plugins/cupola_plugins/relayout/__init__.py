"""Stores the weights of an ONNX decoder in another layout: int8 rows, int8 or int4 blocks. Loaded as plugin `relayout`.

The service calls `OnnxRelayout`; the work itself (`rewriting`) runs in a process of its own, so importing this package
loads neither numpy nor onnx.
"""

from cupola_plugins.relayout.converter import OnnxRelayout, model_converters

__all__ = ["OnnxRelayout", "model_converters"]

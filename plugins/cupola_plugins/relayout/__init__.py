"""Converts the weights of an ONNX decoder to another layout: int8 rows, int8 or int4 blocks. Entry point: `relayout`.

The service calls `OnnxRelayout`. The conversion itself (`rewriter`) runs in a separate process, so importing this
package loads neither numpy nor onnx.
"""

from cupola_plugins.relayout.converter import OnnxRelayout, model_converters

__all__ = ["OnnxRelayout", "model_converters"]

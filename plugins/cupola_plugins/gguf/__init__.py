"""Imports GGUF language models as ONNX folders that onnxruntime-genai loads, without torch.

The service calls `import_in_subprocess`; the work itself (`importer.import_gguf`) runs in a process of its own, so that
importing this package loads neither numpy nor onnx nor gguf. Loaded as a plugin through the entry point `gguf`.
"""

from cupola_plugins.gguf.converter import GgufConverter, model_converters
from cupola_plugins.gguf.isolated import import_in_subprocess
from cupola_plugins.gguf.layout import Layout

__all__ = ["GgufConverter", "Layout", "import_in_subprocess", "model_converters"]

"""Imports GGUF language models as ONNX folders that onnxruntime-genai loads, without torch.

The service calls `import_in_subprocess`. The import itself (`importer.import_gguf`) runs in a separate process, so
importing this package loads neither numpy nor onnx nor gguf. Loaded as a plugin through the entry point `gguf`.
"""

from cupola_plugins.gguf.converter import GgufConverter, import_in_subprocess, is_gguf, model_converters
from cupola_plugins.gguf.files import Layout

__all__ = ["GgufConverter", "Layout", "import_in_subprocess", "is_gguf", "model_converters"]

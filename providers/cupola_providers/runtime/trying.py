"""Whether a provider that ONNX Runtime was built with can run a graph here at all."""

from collections.abc import Mapping

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper


def problem_on(provider: str, options: Mapping[str, str]) -> str:
    """Run a graph of one node on a provider and nowhere else; returns what is in the way, or nothing."""
    settings = ort.SessionOptions()
    settings.log_severity_level = 4
    settings.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    try:
        session = ort.InferenceSession(_graph(), settings, providers=[(provider, dict(options))], enable_fallback=0)
        if provider not in session.get_providers():
            return f"ONNX Runtime cannot load {provider}"
        session.run(None, {"x": np.ones((2, 2), np.float32)})
    except Exception as error:  # noqa: BLE001 - the binding raises classes of its own that derive from Exception alone
        return str(error) or type(error).__name__
    return ""


def _graph() -> bytes:
    """Build x + x."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 2]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "tried", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return bytes(model.SerializeToString())

"""Runs in QNN's environment: a quantised product on the simulator of the NPU alone, beside the processor's result."""

import json

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from cupola_providers.qnn import _QNN
from cupola_providers.runtime.devices import find_devices
from cupola_providers.runtime.target import nodes_by_provider

COLUMNS, ROWS = 16, 8


def quantised_product():
    """Build y = x @ w with every value quantised to 8 bits: QDQ, as NPUs want it."""
    random = np.random.default_rng(0)
    weights = random.integers(-127, 128, (COLUMNS, ROWS)).astype(np.int8)
    constants = {
        "x.scale": np.float32(0.03),
        "x.zero": np.uint8(128),
        "w": weights,
        "w.scale": np.float32(0.005),
        "w.zero": np.int8(0),
        "y.scale": np.float32(0.05),
        "y.zero": np.uint8(128),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "x.scale", "x.zero"], ["x.q"]),
        helper.make_node("DequantizeLinear", ["x.q", "x.scale", "x.zero"], ["x.d"]),
        helper.make_node("DequantizeLinear", ["w", "w.scale", "w.zero"], ["w.d"]),
        helper.make_node("MatMul", ["x.d", "w.d"], ["y.f"]),
        helper.make_node("QuantizeLinear", ["y.f", "y.scale", "y.zero"], ["y.q"]),
        helper.make_node("DequantizeLinear", ["y.q", "y.scale", "y.zero"], ["y"]),
    ]
    x, y = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [4, size])
        for name, size in (("x", COLUMNS), ("y", ROWS))
    )
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "product", [x], [y], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()


def main():
    (found,) = find_devices(_QNN)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    options.add_provider_for_devices([found.native], {"backend_type": "htp"})
    graph = quantised_product()
    session = ort.InferenceSession(graph, options, enable_fallback=0)
    x = np.random.default_rng(1).standard_normal((4, COLUMNS)).astype(np.float32)
    (on_npu,) = session.run(None, {"x": x})
    (on_cpu,) = ort.InferenceSession(graph, providers=["CPUExecutionProvider"]).run(None, {"x": x})
    difference = float(np.abs(on_npu - on_cpu).max())
    told = {"device": found.device.name, "nodes": nodes_by_provider(session), "difference": difference}
    print(json.dumps({**told, "largest": float(np.abs(on_cpu).max())}))


main()

"""A list of ONNX nodes under construction, with the few constants that live in the graph itself."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

CONTRIB = "com.microsoft"
"""The domain of onnxruntime's own operators."""

_OPSETS = {"": 21, CONTRIB: 1}
_IR_VERSION = 10


class Nodes:
    """Collects nodes in order. Values are named by strings; a node takes the name of its first output."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}

    def add(self, operator: str, inputs: Sequence[str], *outputs: str, domain: str = "", **attributes: Any) -> str:
        """Append a node and return the name of its first output."""
        self._nodes.append(helper.make_node(operator, inputs, outputs, name=outputs[0], domain=domain, **attributes))
        return outputs[0]

    def append(self, node: onnx.NodeProto) -> None:
        """Append a node that another graph had."""
        self._nodes.append(node)

    def constant(self, name: str, value: NDArray[Any] | np.generic) -> str:
        """Return the name of a small constant, made on first use."""
        if name not in self._constants:
            self._constants[name] = numpy_helper.from_array(np.asarray(value), name)
        return name

    def model(
        self,
        inputs: Sequence[onnx.ValueInfoProto],
        outputs: Sequence[onnx.ValueInfoProto],
        weights: Mapping[str, onnx.TensorProto],
        properties: Mapping[str, str],
    ) -> onnx.ModelProto:
        """Close the graph. Of the weights, only what a node uses becomes part of it."""
        used = {name for node in self._nodes for name in node.input}
        others = (tensor for name, tensor in weights.items() if name in used and name not in self._constants)
        initializers = [*self._constants.values(), *others]
        graph = helper.make_graph(self._nodes, "decoder", inputs, outputs, initializers)
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid(domain, version) for domain, version in _OPSETS.items()],
            ir_version=_IR_VERSION,
            producer_name="cupola",
        )
        helper.set_model_props(model, dict(properties))
        return model

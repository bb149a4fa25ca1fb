"""A list of ONNX nodes under construction, with the few constants that live in the graph itself."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

CONTRIB = "com.microsoft"
"""The domain of onnxruntime's own operators."""
_OPSETS = {"": 21, CONTRIB: 1}
_IR_VERSION = 10
_ALIGNMENT = 64  # bytes: what onnxruntime maps it can then use in place


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


class WeightsFile:
    """An ONNX external data file being written. Each array goes to disk at once; only its description stays.

    Use as a context manager.

    Attributes:
        tensors: For every name, the initializer that refers to its place in the file.
    """

    def __init__(self, path: Path) -> None:
        self.tensors: dict[str, onnx.TensorProto] = {}
        self._path = path
        self._file = path.open("wb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, name: str, array: NDArray[Any]) -> None:
        """Write an array.

        Raises:
            OSError: The disk is full, or the like.
        """
        array = np.ascontiguousarray(array)
        self._file.write(bytes(-self._file.tell() % _ALIGNMENT))
        offset = self._file.tell()
        self._file.write(array.data.cast("B"))
        self.tensors[name] = self._external(
            name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape, offset, array.nbytes
        )

    def alias(self, name: str, original: str, shape: tuple[int, ...]) -> None:
        """Give what was written as `original` a second name and shape. It takes no room."""
        tensor = self.tensors[original]
        place = {entry.key: int(entry.value) for entry in tensor.external_data if entry.key != "location"}
        self.tensors[name] = self._external(name, tensor.data_type, shape, place["offset"], place["length"])

    def _external(self, name: str, kind: int, shape: tuple[int, ...], offset: int, length: int) -> onnx.TensorProto:
        tensor = TensorProto(name=name, data_type=kind, dims=shape, data_location=TensorProto.EXTERNAL)
        for key, value in (("location", self._path.name), ("offset", offset), ("length", length)):
            tensor.external_data.add(key=key, value=str(value))
        return tensor

"""The parts of an ONNX model while it is written: its nodes, and its weights in an external data file.

Format: https://github.com/onnx/onnx/blob/main/docs/ExternalData.md
"""

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
_ALIGNMENT = 64  # bytes: lets onnxruntime use the mapped data in place


class Nodes:
    """The nodes of a graph, in order. A node is named after its first output."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}

    def add(self, operator: str, inputs: Sequence[str], *outputs: str, domain: str = "", **attributes: Any) -> str:
        """Append a node and return the name of its first output."""
        self._nodes.append(helper.make_node(operator, inputs, outputs, name=outputs[0], domain=domain, **attributes))
        return outputs[0]

    def append(self, node: onnx.NodeProto) -> None:
        """Append a node of another graph."""
        self._nodes.append(node)

    def constant(self, name: str, value: NDArray[Any] | np.generic) -> str:
        """Add a small constant to the graph unless it has one of that name. Return the name."""
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
        """Return the finished model, with only those weights that a node uses."""
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
    """Writes an ONNX external data file. Arrays go to disk at once; only their descriptions stay in memory.

    Use as a context manager.

    Attributes:
        tensors: By name, the initializer that refers to the data in the file.
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
        """Write an array of any shape and dtype, aligned to 64 bytes, little-endian and in C order.

        Raises:
            OSError: The file cannot be written, for example because the disk is full.
        """
        array = np.ascontiguousarray(array)
        self._file.write(bytes(-self._file.tell() % _ALIGNMENT))
        offset = self._file.tell()
        self._file.write(array.data.cast("B"))
        self.tensors[name] = self._external(
            name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape, offset, array.nbytes
        )

    def alias(self, name: str, original: str, shape: tuple[int, ...]) -> None:
        """Add a second name and shape for the data of `original`. Writes nothing."""
        tensor = self.tensors[original]
        place = {entry.key: int(entry.value) for entry in tensor.external_data if entry.key != "location"}
        self.tensors[name] = self._external(name, tensor.data_type, shape, place["offset"], place["length"])

    def _external(self, name: str, kind: int, shape: tuple[int, ...], offset: int, length: int) -> onnx.TensorProto:
        tensor = TensorProto(name=name, data_type=kind, dims=shape, data_location=TensorProto.EXTERNAL)
        for key, value in (("location", self._path.name), ("offset", offset), ("length", length)):
            tensor.external_data.add(key=key, value=str(value))
        return tensor

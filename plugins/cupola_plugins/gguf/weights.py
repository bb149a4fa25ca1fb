"""The file of weights beside the graphs, written as a stream."""

from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

_ALIGNMENT = 64  # bytes: what onnxruntime maps it can then use in place


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

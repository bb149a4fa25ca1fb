"""The weights of a graph, as far as its file says something about them: how they are stored, and how large they are."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from onnx import TensorProto

from cupola_providers.runtime.layout import PROPERTY

_USUAL_BLOCK = 32
_FLOATS = {TensorProto.FLOAT: "float32", TensorProto.FLOAT16: "float16", TensorProto.BFLOAT16: "bfloat16"}


def layout_of(model: Any) -> str:
    """Name how the matrices of a model are stored, as the model says or as most of its weights are; "" if unknown.

    Names are those of our own importer: "int8-rows", "int4-blocks" for blocks of 32, "int4-blocks-128" for others.
    """
    for entry in model.metadata_props:
        if entry.key == PROPERTY.decode():
            return str(entry.value)
    sizes: Counter[str] = Counter()
    for name, size in _matrices(model.graph):
        sizes[name] += size
    return sizes.most_common(1)[0][0] if sizes else ""


def weights_bytes(graph: Any, path: Path) -> int:
    """Add up the files that hold a graph's weights; its own one if none lies outside."""
    places = {
        entry.value for one in graph.initializer for entry in one.external_data if entry.key == "location" and one.name
    }
    files = [path.parent / place for place in places] or [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def _matrices(graph: Any) -> Iterator[tuple[str, int]]:
    """Iterate over the matrices that activations are multiplied with: how they are stored, and their size."""
    constants = {one.name: one for one in graph.initializer}
    for node in graph.node:
        numbers = {attribute.name: attribute.i for attribute in node.attribute}
        if node.op_type == "MatMulNBits":
            bits, block = numbers.get("bits", 4), numbers["block_size"]
            suffix = "" if block == _USUAL_BLOCK else f"-{block}"
            yield f"int{bits}-blocks{suffix}", numbers["K"] * numbers["N"]
        elif node.op_type.startswith("MatMul") and node.input[1] in constants:
            matrix = constants[node.input[1]]
            rows, columns = matrix.dims[-2:] if len(matrix.dims) > 1 else (1, matrix.dims[0])
            yield _FLOATS.get(matrix.data_type, "int8-rows"), rows * columns

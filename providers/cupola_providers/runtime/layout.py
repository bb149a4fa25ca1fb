"""The weight layout of an ONNX file: how its matrices are quantized and stored."""

import mmap
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import TensorProto

PROPERTY = b"cupola.layout"
"""Metadata property of the ONNX files that Cupola writes."""

_USUAL_BLOCK = 32
_LARGEST_GRAPH_BYTES = 64_000_000
_FLOATS = {TensorProto.FLOAT: "float32", TensorProto.FLOAT16: "float16", TensorProto.BFLOAT16: "bfloat16"}

_METADATA_PROPS = 14  # of ModelProto, each with a key (1) and a value (2)
_FIXED_SIZES = {1: 8, 5: 4}


def read_layout(path: Path) -> str:
    """Return the layout of an ONNX file from its metadata, or from its nodes (`layout_of`); empty if unknown."""
    return _property(path) or _recognised(path)


def layout_of(model: Any) -> str:
    """Return the layout that a model's metadata names, or that of most of its weights.

    Names are those of Cupola's importer: "int8-rows", "int4-blocks" for blocks of 32, "int4-blocks-128" for others.
    """
    for entry in model.metadata_props:
        if entry.key == PROPERTY.decode():
            return str(entry.value)
    sizes: Counter[str] = Counter()
    for name, size in _matrices(model.graph):
        sizes[name] += size
    return sizes.most_common(1)[0][0] if sizes else ""


def graph_nodes(path: Path) -> int:
    """Count the nodes of an ONNX file; 0 if it cannot be read, or its weights are in it."""
    try:
        if path.stat().st_size > _LARGEST_GRAPH_BYTES:
            return 0
        return len(onnx.load(path, load_external_data=False).graph.node)
    except (OSError, DecodeError):
        return 0


def _matrices(graph: Any) -> Iterator[tuple[str, int]]:
    """Yield the layout and the number of elements of each weight matrix."""
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


def _recognised(path: Path) -> str:
    try:
        if path.stat().st_size > _LARGEST_GRAPH_BYTES:  # the file contains its weights, which would be slow to read
            return ""
        return layout_of(onnx.load(path, load_external_data=False))
    except (OSError, DecodeError):
        return ""


def _property(path: Path) -> str:
    """Return the metadata property with the layout. Reads outermost fields only, so large files are fast."""
    try:
        with path.open("rb") as file:
            content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        for number, value in _fields(content):
            if number == _METADATA_PROPS:
                entry = {part: bytes(text) for part, text in _fields(value)}
                if entry[1] == PROPERTY:
                    return entry[2].decode("utf-8", "replace")
    except (OSError, ValueError, LookupError):  # missing, empty, damaged
        pass
    return ""


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield the number and content of the length-delimited fields of a protobuf message."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        if tag & 7 == 2:
            size, at = _varint(message, at)
            yield tag >> 3, message[at : at + size]
            at += size
        elif tag & 7 == 0:
            _, at = _varint(message, at)
        else:
            at += _FIXED_SIZES[tag & 7]


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """Read a varint; returns its value and its end offset."""
    value = shift = 0
    while message[at] >= 0x80:
        value |= (message[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
    return value | message[at] << shift, at + 1

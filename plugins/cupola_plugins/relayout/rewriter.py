"""Rewrites a model folder with its matrices in another layout. Runs in a separate process; see `converter`."""

import shutil
from pathlib import Path

import onnx
from onnx import external_data_helper

from cupola.catalog import Progress, ProgressEvent
from cupola.errors import ModelFormatError
from cupola_plugins.gguf import files, linear
from cupola_plugins.gguf.files import Layout
from cupola_plugins.gguf.graph import LAYOUT_PROPERTY
from cupola_plugins.gguf.importer import require_disk_space, translate_disk_errors
from cupola_plugins.gguf.linear import Linear, Matrix
from cupola_plugins.gguf.onnx_model import Nodes, WeightsFile
from cupola_plugins.relayout.sites import Site, Tensors, find_sites

_OLDEST_OPSET_FOR_ROWS = 18  # ReduceMax takes its axes as an input since then
_LOGITS = "logits"


def rewrite(source: Path, folder: Path, *, layout: Layout, progress: Progress | None = None) -> None:
    """Write the model in `source` to `folder`, with its matrices in another layout.

    The matrices are dequantized and quantized again: fewer bits lose precision, more bits do not restore it. All files
    except graphs and weights are copied.

    Raises:
        ModelFormatError: The source is damaged, or has no matrices that can be dequantized.
        DiskFullError, CacheError: The folder cannot be written.
    """
    needed = sum(path.stat().st_size for path in source.iterdir() if path.is_file()) * 2
    with translate_disk_errors(folder, needed):
        folder.mkdir(parents=True, exist_ok=True)
        require_disk_space(folder, needed)
        graphs = {name: _load(source / name) for name in (files.GRAPH, files.PICKED_GRAPH) if (source / name).is_file()}
        with WeightsFile(folder / files.WEIGHTS) as weights:
            writer = _Writer(source, weights, layout, progress)
            for model in graphs.values():
                writer.store(model)
            for name, model in graphs.items():
                (folder / name).write_bytes(writer.rewrite(model).SerializeToString())
        for path in source.iterdir():
            if path.is_file() and path.suffix not in (".onnx", ".data") and not path.name.startswith("cupola."):
                shutil.copy2(path, folder / path.name)


class _Writer:
    """Stores each matrix once, even if several graphs use it."""

    def __init__(self, source: Path, weights: WeightsFile, layout: Layout, progress: Progress | None) -> None:
        self._source, self._weights, self._layout, self._progress = source, weights, layout, progress

    def store(self, model: onnx.ModelProto) -> None:
        tensors = Tensors(model, self._source)
        sites = find_sites(model, tensors)
        if not sites:
            raise ModelFormatError(
                path=str(self._source),
                detail="its graph has no matrices that can be converted. Use a model with MatMulNBits",
            )
        replaced = {name for site in sites for index in site.nodes for name in model.graph.node[index].input}
        kept = {name for index in _kept(model, sites) for name in model.graph.node[index].input}
        for name in tensors.protos.keys() - (replaced - kept):
            if external_data_helper.uses_external_data(tensors.protos[name]) and name not in self._weights.tensors:
                self._weights.add(name, tensors.array(name))
        for done, site in enumerate(sites, 1):
            if f"{_matrix(site).name}.values" not in self._weights.tensors:
                self._linear(site).store(self._weights, _matrix(site).name, site.matrix(tensors))
            if self._progress:
                self._progress(ProgressEvent("convert", done, len(sites), "matrices"))

    def rewrite(self, model: onnx.ModelProto) -> onnx.ModelProto:
        tensors = Tensors(model, self._source)
        sites = find_sites(model, tensors)
        if self._layout is Layout.INT8_ROWS:
            _require_opset(model, self._source)
        last = {max(site.nodes): site for site in sites}
        gone = frozenset().union(*(site.nodes for site in sites))
        nodes = Nodes()
        for index, node in enumerate(model.graph.node):
            if site := last.get(index):
                self._linear(site).multiply(nodes, site.x, _matrix(site), site.out)
            elif index not in gone:
                nodes.append(node)
        inline = {
            name: proto for name, proto in tensors.protos.items() if not external_data_helper.uses_external_data(proto)
        }
        new = nodes.model(
            list(model.graph.input),
            list(model.graph.output),
            {**inline, **self._weights.tensors},
            {**{entry.key: entry.value for entry in model.metadata_props}, LAYOUT_PROPERTY: self._layout.value},
        )
        del new.opset_import[:]
        new.opset_import.extend(model.opset_import)
        return new

    def _linear(self, site: Site) -> Linear:
        return (linear.HEAD if site.out == _LOGITS else linear.BODY)[self._layout]


def _load(path: Path) -> onnx.ModelProto:
    try:
        return onnx.load(path, load_external_data=False)
    except Exception as error:  # the errors of protobuf and onnx have no common base class
        raise ModelFormatError(path=str(path), detail=f"is not a valid ONNX graph: {error}") from error


def _matrix(site: Site) -> Matrix:
    return Matrix(f"{site.name}.relaid", (), site.rows, site.columns)


def _kept(model: onnx.ModelProto, sites: list[Site]) -> set[int]:
    return set(range(len(model.graph.node))).difference(*(site.nodes for site in sites))


def _require_opset(model: onnx.ModelProto, source: Path) -> None:
    version = next((opset.version for opset in model.opset_import if opset.domain in ("", "ai.onnx")), 0)
    if version < _OLDEST_OPSET_FOR_ROWS:
        detail = f"its graph has opset {version}, but int8-rows needs {_OLDEST_OPSET_FOR_ROWS}. Export the model again."
        raise ModelFormatError(path=str(source), detail=detail)

import numpy as np
import onnx
import onnxruntime
import onnxruntime_genai as og
import pytest

from cupola.errors import ModelFormatError
from cupola_plugins.gguf.files import Layout
from cupola_plugins.relayout import OnnxRelayout
from cupola_plugins.relayout.rewriter import rewrite
from cupola_plugins.relayout.sites import Tensors, find_sites
from tiny_model import TinySizes, write_tiny_model

pytestmark = pytest.mark.anyio
TOKENS = np.arange(10, 42, dtype=np.int64)[None]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return {layout: write_tiny_model(tmp_path_factory.mktemp(layout), layout=layout) for layout in Layout}


def logits(folder):
    """Run the stock graph over the whole text at once, in plain onnxruntime."""
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    sizes = TinySizes()
    feed = {"input_ids": TOKENS, "attention_mask": np.ones_like(TOKENS)}
    for one in session.get_inputs():
        if one.name.startswith("past"):
            feed[one.name] = np.zeros((1, sizes.kv_heads, 0, sizes.head_size), np.float32)
    return session.run(["logits"], feed)[0][0]


def divergence(a, b):
    a, b = (x - np.log(np.exp(x).sum(-1, keepdims=True)) for x in (a, b))
    return float((np.exp(a) * (a - b)).sum(-1).mean())


def matrices(folder, graph="model.onnx"):
    model = onnx.load(folder / graph, load_external_data=False)
    tensors = Tensors(model, folder)
    return [site.matrix(tensors) for site in find_sites(model, tensors)]


@pytest.mark.parametrize("graph", ["model.onnx", "model.slots.onnx"])
@pytest.mark.parametrize("start", list(Layout))
@pytest.mark.parametrize("end", list(Layout))
def test_any_layout_becomes_any_other_with_matrices_near_the_sources(folders, tmp_path, start, end, graph):
    rewrite(folders[start], tmp_path / "out", layout=end)
    before, after = matrices(folders[start], graph), matrices(tmp_path / "out", graph)
    assert len(before) == len(after) == 4 * TinySizes().layers + 1
    for one, other in zip(before, after, strict=True):
        error = np.linalg.norm(one - other) / np.linalg.norm(one)
        assert error < (0.12 if end.startswith("int4") else 0.01)
    likeness = np.corrcoef(logits(folders[start]).ravel(), logits(tmp_path / "out").ravel())[0, 1]
    assert likeness > (0.8 if end.startswith("int4") else 0.98)


def test_a_layout_rewritten_as_itself_changes_almost_nothing(folders, tmp_path):
    rewrite(folders[Layout.INT8_BLOCKS], tmp_path / "out", layout=Layout.INT8_BLOCKS)
    assert divergence(logits(folders[Layout.INT8_BLOCKS]), logits(tmp_path / "out")) < 1e-3


def test_both_graphs_and_the_tokenizer_come_along(folders, tmp_path):
    rewrite(folders[Layout.INT8_ROWS], tmp_path / "out", layout=Layout.INT4_BLOCKS)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {path.name for path in folders[Layout.INT8_ROWS].iterdir()} == names
    onnxruntime.InferenceSession(tmp_path / "out" / "model.slots.onnx")
    model = og.Model(str(tmp_path / "out"))
    params = og.GeneratorParams(model)
    params.set_search_options(max_length=20, min_length=20, do_sample=False)
    generator = og.Generator(model, params)
    generator.append_tokens(TOKENS[0, :8].astype(np.int32))
    generator.generate_next_token()
    assert generator.token_count() == 9


def test_only_model_folders_with_readable_matrices_are_offered_layouts(folders, tmp_path):
    assert OnnxRelayout().layouts(folders[Layout.INT4_BLOCKS]) == tuple(Layout)
    (tmp_path / "genai_config.json").write_text("{}")
    assert OnnxRelayout().layouts(tmp_path) == ()
    (tmp_path / "model.onnx").write_bytes(b"nothing of the kind")
    assert OnnxRelayout().layouts(tmp_path) == ()
    assert OnnxRelayout().layouts(tmp_path / "none") == ()


async def test_a_conversion_runs_in_a_process_of_its_own_and_reports_progress(folders, tmp_path):
    seen = []
    source, out = folders[Layout.INT8_ROWS], tmp_path / "out"
    await OnnxRelayout().convert(source, out, layout="int8-blocks", progress=seen.append)
    assert seen[-1].done == seen[-1].total > 1
    assert (out / "genai_config.json").is_file()


@pytest.mark.parametrize("fault", ["truncated data", "no graph", "no matrices"])
async def test_a_damaged_source_is_a_clear_error_and_leaves_nothing(folders, tmp_path, fault):
    source = write_tiny_model(tmp_path / "source")
    if fault == "truncated data":
        data = source / "model.onnx.data"
        data.write_bytes(data.read_bytes()[:1000])
    elif fault == "no graph":
        (source / "model.onnx").write_bytes(b"MatMulNBits")
    else:
        (source / "model.onnx").write_bytes(b"")
    with pytest.raises(ModelFormatError):
        await OnnxRelayout().convert(source, tmp_path / "out", layout="int4-blocks", progress=lambda _: None)
    assert not (tmp_path / "out").exists()

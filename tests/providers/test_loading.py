import json

import onnx
import onnxruntime
import onnxruntime_genai as og
import psutil
import pytest

from cupola.errors import LoadError, ModelFormatError
from cupola.provider import Limits, ModelFiles
from cupola_providers.runtime import loading
from cupola_providers.runtime.config import read_config
from cupola_providers.runtime.loading import RuntimeSetup, choose_kind, open_session
from cupola_providers.runtime.target import Target
from tiny_model import write_tiny_model


@pytest.fixture
def folder(tmp_path):
    return write_tiny_model(tmp_path)


@pytest.fixture(params=["slots", "generator"])
def kind(request):
    return request.param


def opened(folder, kind="auto", **setup):
    return open_session(ModelFiles("tiny:1", folder), setup=RuntimeSetup(session=kind, **setup), limits=Limits())


def rotate_by_a_table_of_its_own(folder):
    """Make the rotary table of all graphs an input's affair, which the slots do not understand."""
    for path in folder.glob("*.onnx"):
        model = onnx.load(path, load_external_data=False)
        for node in model.graph.node:
            if node.op_type == "GroupQueryAttention":
                node.input[7] = "no_constant"
        onnx.save(model, path)


def edit_config(folder, change):
    path = folder / "genai_config.json"
    content = json.loads(path.read_text("utf-8"))
    change(content)
    path.write_text(json.dumps(content), "utf-8")


def cut(path, size):
    path.write_bytes(path.read_bytes()[:size])


def test_a_model_that_can_share_its_cache_gets_slots(folder):
    session = opened(folder, threads=1, spinning=False)
    assert (session.kind, session.threads, session.context_length) == ("slots", 1, 512)
    assert session.capacity > 1
    assert "GroupQueryAttention" in session.reason
    assert session.layout == "int8-rows"


def test_the_generator_runs_what_slots_cannot_and_says_why(folder):
    rotate_by_a_table_of_its_own(folder)
    with pytest.raises(LoadError, match="session = slots asks for slots, but its rotary tables"):
        opened(folder, "slots")
    files, config = ModelFiles("tiny:1", folder), read_config(folder)
    choice = choose_kind(files, config, RuntimeSetup(), Limits())
    assert choice.kind == "generator"
    assert choice.reason == "its rotary tables change with the length of the turn, so turns run one at a time"


def test_the_telemetry_of_both_libraries_is_switched_off_before_anything_is_loaded(folder, tmp_path, monkeypatch):
    switched = []
    monkeypatch.setattr(og, "disable_telemetry_events", lambda: switched.append("genai"))
    monkeypatch.setattr(onnxruntime, "disable_telemetry_events", lambda: switched.append("onnxruntime"))
    monkeypatch.setattr(loading, "read_config", lambda path: pytest.fail(str(switched)))
    with pytest.raises(pytest.fail.Exception, match=r"\['genai', 'onnxruntime'\]"):
        opened(folder)


def test_a_generator_may_be_asked_for(folder):
    session = opened(folder, "generator", threads=1)
    assert (session.kind, session.capacity, session.threads, session.context_length) == ("generator", 1, 1, 512)
    assert "asks for it" in session.reason
    assert session.layout == "int8-rows"


def test_slots_that_do_not_fit_in_the_memory_given_are_not_chosen(folder):
    session = opened(folder, kv_memory_bytes=100_000)
    assert session.kind == "generator"
    assert "not enough for a KV cache" in session.reason
    with pytest.raises(LoadError, match="not enough for a KV cache"):
        opened(folder, "slots", kv_memory_bytes=100_000)


def test_the_memory_for_slots_is_a_quarter_of_what_is_free(monkeypatch):
    assert RuntimeSetup(kv_memory_bytes=5).kv_budget_bytes == 5
    free = psutil.virtual_memory()._replace(available=4_000_000)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: free)
    assert RuntimeSetup().kv_budget_bytes == 1_000_000


def test_the_provider_that_the_file_names_is_not_used_in_secret(folder, kind):
    def name_cuda(content):
        content["model"]["decoder"]["session_options"]["provider_options"] = [{"cuda": {}}]

    edit_config(folder, name_cuda)
    assert opened(folder, kind).kind == kind


@pytest.mark.parametrize("name", ["genai_config.json", "tokenizer.json", "model.onnx", "model.onnx.data"])
def test_a_missing_file_is_named_with_what_to_do(folder, kind, name):
    (folder / name).unlink()
    with pytest.raises(ModelFormatError) as caught:
        opened(folder, kind)
    assert name in str(caught.value)
    assert str(caught.value).endswith("Delete the model's folder and download it again.")


@pytest.mark.parametrize("size", [0, 3000])
@pytest.mark.parametrize("kind", ["auto", "generator"])
def test_truncated_graphs_are_damage(folder, kind, size):
    for name in ("model.onnx", "model.slots.onnx"):
        cut(folder / name, size)
    with pytest.raises(ModelFormatError, match=r"damaged or incomplete .*download it again\.$"):
        opened(folder, kind)


def test_truncated_weights_are_damage(folder, kind):
    cut(folder / "model.onnx.data", 1000)
    with pytest.raises(ModelFormatError, match=r"damaged or incomplete .*download it again\.$"):
        opened(folder, kind)


def test_a_flipped_graph_is_damage(folder):
    data = bytearray((folder / "model.onnx").read_bytes())
    data[100:140] = b"\xff" * 40
    (folder / "model.onnx").write_bytes(data)
    with pytest.raises(ModelFormatError, match="damaged"):
        opened(folder, "generator")


def test_a_kind_of_model_that_is_not_supported_is_named(folder):
    edit_config(folder, lambda content: content["model"].update(type="mystery"))
    with pytest.raises(ModelFormatError, match=r"'mystery' are not supported .* Choose another model"):
        opened(folder, "generator")


def test_a_config_key_that_the_library_refuses_is_named(folder):
    edit_config(folder, lambda content: content["model"].update(mystery=1))
    with pytest.raises(ModelFormatError, match=r"genai_config\.json.*mystery"):
        opened(folder, "generator")


@pytest.mark.parametrize("change", [{"vocab_size": 7, "eos_token_id": 2}, {"eos_token_id": 99_999}])
def test_a_config_that_contradicts_the_graph_is_refused_at_once(folder, kind, change):
    edit_config(folder, lambda content: content["model"].update(change))
    with pytest.raises(LoadError, match="do not fit together"):
        opened(folder, kind)


def test_a_model_that_computes_no_numbers_is_refused_at_once(folder, kind):
    weights = folder / "model.onnx.data"
    weights.write_bytes(b"\xff" * weights.stat().st_size)  # as float32: NaN
    with pytest.raises(LoadError, match="NaN or infinite"):
        opened(folder, kind)


def test_a_provider_that_is_not_there_is_a_load_error_with_the_librarys_reason(folder):
    with pytest.raises(LoadError, match="'tiny:1' could not be loaded: ONNX Runtime rejected it: Cuda"):
        opened(folder, target=Target(provider="CUDAExecutionProvider", genai_name="cuda", host_cache=False))


def test_who_takes_the_nodes_is_read_from_onnx_runtime(folder):
    nodes = opened(folder, "slots").nodes
    assert set(nodes) == {"CPUExecutionProvider"}
    assert nodes["CPUExecutionProvider"] > 50

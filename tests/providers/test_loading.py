import json

import pytest

from cupola import Limits, LoadError, ModelFiles, ModelFormatError
from cupola_providers.runtime.loading import RuntimeSetup, open_session
from tiny_model import write_tiny_model


@pytest.fixture
def folder(tmp_path):
    return write_tiny_model(tmp_path)


def opened(folder, **setup):
    return open_session(ModelFiles("tiny:1", folder), setup=RuntimeSetup(**setup), limits=Limits())


def edit_config(folder, change):
    path = folder / "genai_config.json"
    content = json.loads(path.read_text("utf-8"))
    change(content)
    path.write_text(json.dumps(content), "utf-8")


def cut(path, size):
    path.write_bytes(path.read_bytes()[:size])


def test_a_session_says_what_it_is(folder):
    session = opened(folder, threads=1, spinning=False)
    assert (session.kind, session.capacity, session.threads, session.context_length) == ("generator", 1, 1, 512)
    assert session.reason


def test_the_provider_that_the_file_names_is_not_used_in_secret(folder):
    def name_cuda(content):
        content["model"]["decoder"]["session_options"]["provider_options"] = [{"cuda": {}}]

    edit_config(folder, name_cuda)
    assert opened(folder).kind == "generator"


@pytest.mark.parametrize("name", ["genai_config.json", "tokenizer.json", "model.onnx", "model.onnx.data"])
def test_a_missing_file_is_named_with_what_to_do(folder, name):
    (folder / name).unlink()
    with pytest.raises(ModelFormatError) as caught:
        opened(folder)
    assert name in str(caught.value)
    assert str(caught.value).endswith("Delete the model's folder and download it again.")


@pytest.mark.parametrize(("name", "size"), [("model.onnx", 0), ("model.onnx", 3000), ("model.onnx.data", 1000)])
def test_a_truncated_file_is_damage(folder, name, size):
    cut(folder / name, size)
    with pytest.raises(ModelFormatError, match=r"damaged or incomplete .*download it again\.$"):
        opened(folder)


def test_a_flipped_graph_is_damage(folder):
    data = bytearray((folder / "model.onnx").read_bytes())
    data[100:140] = b"\xff" * 40
    (folder / "model.onnx").write_bytes(data)
    with pytest.raises(ModelFormatError, match="damaged"):
        opened(folder)


def test_a_kind_of_model_that_is_not_supported_is_named(folder):
    edit_config(folder, lambda content: content["model"].update(type="mystery"))
    with pytest.raises(ModelFormatError, match=r"'mystery' are not supported .* Choose another model"):
        opened(folder)


def test_a_config_key_that_the_library_refuses_is_named(folder):
    edit_config(folder, lambda content: content["model"].update(mystery=1))
    with pytest.raises(ModelFormatError, match=r"genai_config\.json.*mystery"):
        opened(folder)


@pytest.mark.parametrize("change", [{"vocab_size": 7, "eos_token_id": 2}, {"eos_token_id": 99_999}])
def test_a_config_that_contradicts_the_graph_is_refused_at_once(folder, change):
    edit_config(folder, lambda content: content["model"].update(change))
    with pytest.raises(LoadError, match="do not fit together"):
        opened(folder)


def test_a_model_that_computes_no_numbers_is_refused_at_once(folder):
    weights = folder / "model.onnx.data"
    weights.write_bytes(b"\xff" * weights.stat().st_size)  # as float32: NaN
    with pytest.raises(LoadError, match="not a number"):
        opened(folder)


def test_a_provider_that_is_not_there_is_a_load_error_with_the_librarys_reason(folder):
    with pytest.raises(LoadError, match="'tiny:1' could not be loaded: ONNX Runtime refuses it: Cuda"):
        opened(folder, provider="cuda")

"""What a folder with a genai_config.json, or a GGUF file, is as a model."""

import pytest

from cupola.catalog import ImportOptions
from cupola.errors import ModelFormatError
from cupola_plugins.local import folder as folders
from cupola_plugins.local.folder import id_and_alias, publisher_of
from genai_folders import genai_folder


def described(folder, **wishes):
    return folders.describe(folder, ImportOptions(**wishes), source="local")


def test_a_folder_gets_id_alias_size_and_context_like_any_other_model(tmp_path):
    info = described(genai_folder(tmp_path / "My Phi-4 (int4)"))
    assert (info.id, info.alias, info.publisher) == ("My-Phi-4-int4-generic-cpu:1", "my-phi-4-int4", "local")
    assert (info.device, info.provider) == ("CPU", "CPUExecutionProvider")
    assert info.size_bytes == sum(path.stat().st_size for path in (tmp_path / "My Phi-4 (int4)").iterdir())
    assert info.context_length == 2048


@pytest.mark.parametrize(
    ("providers", "provider", "device", "suffix"),
    [
        ([("cuda", {})], "CUDAExecutionProvider", "GPU", "cuda-gpu"),
        ([("dml", {})], "DmlExecutionProvider", "GPU", "directml-gpu"),
        ([("DML", {})], "DmlExecutionProvider", "GPU", "directml-gpu"),
        ([("WebGPU", {})], "WebGpuExecutionProvider", "GPU", "generic-gpu"),
        ([("NvTensorRtRtx", {})], "NvTensorRTRTXExecutionProvider", "GPU", "trtrtx-gpu"),
        ([("qnn", {"backend_path": "QnnHtp.dll"})], "QNNExecutionProvider", "NPU", "qnn-npu"),
        ([("VitisAI", {})], "VitisAIExecutionProvider", "NPU", "vitis-npu"),
        ([("OpenVINO", {"device_type": "NPU"})], "OpenVINOExecutionProvider", "NPU", "openvino-npu"),
        ([("OpenVINO", {"device_type": "GPU.0"})], "OpenVINOExecutionProvider", "GPU", "openvino-gpu"),
        ([("OpenVINO", {})], "OpenVINOExecutionProvider", "CPU", "openvino-cpu"),
        ([("CUDAExecutionProvider", {})], "CUDAExecutionProvider", "GPU", "cuda-gpu"),
        ([], "CPUExecutionProvider", "CPU", "generic-cpu"),
        ([("somethingelse", {})], "CPUExecutionProvider", "CPU", "generic-cpu"),
    ],
)
def test_the_first_provider_of_its_configuration_says_where_it_runs(tmp_path, providers, provider, device, suffix):
    info = described(genai_folder(tmp_path / "m", providers=providers))
    assert (info.provider, info.device, info.id) == (provider, device, f"m-{suffix}:1")


@pytest.mark.parametrize(
    ("files", "task", "tools"),
    [
        ({"chat_template__jinja": "{{ messages }}"}, "chat-completion", False),
        ({"chat_template__jinja": "{{ tools }}"}, "chat-completion", True),
        ({"tokenizer_config__json": '{"chat_template": "{{ messages }} {{ tools }}"}'}, "chat-completion", True),
        ({"tokenizer_config__json": '{"model_max_length": 5}'}, "text-generation", False),
        ({}, "text-generation", False),
    ],
)
def test_its_chat_template_tells_what_it_is_for(tmp_path, files, task, tools):
    info = described(genai_folder(tmp_path / "m", **files))
    assert (info.task, info.supports_tool_calling) == (task, tools)


def test_whisper_is_for_speech(tmp_path):
    assert described(genai_folder(tmp_path / "m", kind="whisper")).task == "automatic-speech-recognition"


@pytest.mark.parametrize(
    ("wishes", "model_id", "alias"),
    [
        ({"name": "mine"}, "mine-generic-cpu:1", "mine"),
        ({"name": "mine:7"}, "mine-generic-cpu:7", "mine"),
        ({"name": "Mine-cuda-gpu:2"}, "Mine-cuda-gpu:2", "mine"),
        ({"alias": "short"}, "Some-Model-generic-cpu:1", "short"),
        ({"name": "../../etc", "alias": "a b"}, "etc-generic-cpu:1", "a-b"),
        ({"name": "ü/✓"}, "model-generic-cpu:1", "model"),
        ({"name": "x:latest"}, "x-generic-cpu:1", "x"),
    ],
)
def test_wishes_name_it(tmp_path, wishes, model_id, alias):
    (tmp_path / "Some Model").mkdir()
    assert id_and_alias(tmp_path / "Some Model", ImportOptions(**wishes), suffix="generic-cpu") == (model_id, alias)


@pytest.mark.parametrize(
    ("file", "model_id"),
    [
        ("Qwen2.5-0.5B-Instruct-Q4_K_M.gguf", "Qwen2.5-0.5B-Instruct-generic-cpu:1"),
        ("smollm.q8_0.gguf", "smollm-generic-cpu:1"),
        ("tiny-F16.gguf", "tiny-generic-cpu:1"),
        ("tiny-iq4_xs.gguf", "tiny-generic-cpu:1"),
        ("plain.gguf", "plain-generic-cpu:1"),
    ],
)
def test_a_file_is_named_without_its_quantisation(tmp_path, file, model_id):
    (tmp_path / file).touch()
    assert id_and_alias(tmp_path / file, ImportOptions(), suffix="generic-cpu")[0] == model_id


def test_a_folder_of_hugging_faces_cache_is_named_after_the_repository(tmp_path):
    snapshot = tmp_path / "models--microsoft--Phi-4-mini-onnx" / "snapshots" / "abc123" / "cpu" / "int4"
    info = described(genai_folder(snapshot))
    assert (info.id, info.publisher) == ("Phi-4-mini-onnx-generic-cpu:1", "microsoft")
    assert publisher_of(tmp_path / "elsewhere") == "local"


def test_the_only_model_below_a_folder_is_found_and_of_several_one_must_be_named(tmp_path):
    inner = genai_folder(tmp_path / "model" / "cpu" / "int4")
    genai_folder(tmp_path / "model" / ".hidden")
    assert folders.model_root(tmp_path / "model") == inner
    assert folders.model_root(inner) == inner
    assert folders.model_root(tmp_path / "nowhere") is None
    (tmp_path / "empty").mkdir()
    assert folders.model_root(tmp_path / "empty") is None
    genai_folder(tmp_path / "model" / "cuda")
    with pytest.raises(ModelFormatError, match="several models") as caught:
        folders.model_root(tmp_path / "model")
    assert "cuda" in str(caught.value)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"search": {}}', '{"model": {"context_length": "long"}}'])
def test_a_damaged_configuration_is_an_error_that_names_it(tmp_path, content):
    (genai_folder(tmp_path / "m") / "genai_config.json").write_text(content)
    with pytest.raises(ModelFormatError) as caught:
        described(tmp_path / "m")
    assert "genai_config.json" in str(caught.value)


def test_files_that_belong_to_no_model_are_left_out(tmp_path):
    folder = genai_folder(tmp_path / "m", inference_model__json="{}", cupola__manifest__json="{}", old__part="")
    (folder / ".git").mkdir()
    (folder / ".git" / "config").touch()
    (folder / ".DS_Store").touch()
    (folder / "deep").mkdir()
    (folder / "deep" / "weights.bin").touch()
    names = [path.relative_to(folder).as_posix() for path in folders.model_files(folder)]
    assert names == ["genai_config.json", "model.onnx", "deep/weights.bin"]


def test_a_link_that_leads_nowhere_is_an_error(tmp_path):
    folder = genai_folder(tmp_path / "m")
    (folder / "weights.bin").symlink_to(tmp_path / "blobs" / "gone")
    with pytest.raises(ModelFormatError, match="leads nowhere"):
        described(folder)

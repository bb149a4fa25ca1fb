"""Models that Foundry Local, or people by hand, put into a cache folder."""

import json

import pytest

from cupola.testing.caches import commit_model, write_files
from cupola_plugins.filesystem import FilesystemCache

pytestmark = pytest.mark.anyio


@pytest.fixture
def store(tmp_path):
    return FilesystemCache(tmp_path / "models")


def foundry_model(folder, name, *, manifest="inference_model.json", context_length=4096):
    write_files(
        folder,
        {
            "genai_config.json": json.dumps({"model": {"context_length": context_length, "type": "phi3"}}).encode(),
            manifest: json.dumps({"Name": name, "PromptTemplate": {"prompt": "<|user|>"}}).encode(),
            "model.onnx.data": b"\0" * 1000,
        },
    )


async def test_a_model_of_foundry_local_is_listed_from_its_version_folder(store):
    folder = store.location / "Microsoft" / "qwen2.5-0.5b-instruct-generic-cpu-4" / "v4"
    foundry_model(folder, "qwen2.5-0.5b-instruct-generic-cpu:4")
    (cached,) = await store.list()
    assert cached.path == folder
    assert cached.size_bytes == sum(path.stat().st_size for path in folder.iterdir())
    assert cached.info.id == "qwen2.5-0.5b-instruct-generic-cpu:4"
    assert cached.info.alias == "qwen2.5-0.5b-instruct"
    assert cached.info.publisher == "Microsoft"
    assert cached.info.source == "local"
    assert cached.info.context_length == 4096
    assert (cached.info.device, cached.info.provider) == ("CPU", "CPUExecutionProvider")
    assert await store.find("qwen2.5-0.5b-instruct-generic-cpu:4") == cached


@pytest.mark.parametrize(
    ("name", "alias", "device", "provider"),
    [
        ("phi-4-cuda-gpu:1", "phi-4", "GPU", "CUDAExecutionProvider"),
        ("phi-4-generic-gpu:1", "phi-4", "GPU", "WebGpuExecutionProvider"),
        ("phi-4-qnn-npu:2", "phi-4", "NPU", "QNNExecutionProvider"),
        ("phi-4-openvino-gpu:1", "phi-4", "GPU", "OpenVINOExecutionProvider"),
        ("phi-4-trtrtx-gpu:1", "phi-4", "GPU", "NvTensorRTRTXExecutionProvider"),
        ("phi-4-vitis-npu:1", "phi-4", "NPU", "VitisAIExecutionProvider"),
        ("my-own", "my-own", "CPU", "CPUExecutionProvider"),
    ],
)
async def test_device_and_provider_come_from_the_name(store, name, alias, device, provider):
    foundry_model(store.location / "Microsoft" / "any", name)
    (cached,) = await store.list()
    assert (cached.info.alias, cached.info.device, cached.info.provider) == (alias, device, provider)


@pytest.mark.parametrize("place", ["mine", "mine/v1", "Someone/mine", "Someone/mine/a/v1"])
@pytest.mark.parametrize("manifest", ["inference_model.json", ".inference_model.json"])
async def test_models_of_ones_own_may_lie_anywhere_in_the_first_levels(store, place, manifest):
    foundry_model(store.location / place, "mine:2", manifest=manifest)
    (cached,) = await store.list()
    assert cached.path == store.location / place


async def test_a_download_under_way_is_not_listed(store):
    folder = store.location / "Microsoft" / "phi-4-generic-cpu-1"
    foundry_model(folder / "v1", "phi-4-generic-cpu:1")
    (folder / "download.tmp").touch()
    assert await store.list() == []


@pytest.mark.parametrize("missing", ["genai_config.json", "inference_model.json"])
async def test_both_files_must_be_there(store, missing):
    foundry_model(store.location / "Microsoft" / "phi", "phi:1")
    (store.location / "Microsoft" / "phi" / missing).unlink()
    assert await store.list() == []


@pytest.mark.parametrize("damaged", ["genai_config.json", "inference_model.json"])
async def test_a_damaged_one_is_skipped(store, damaged, caplog):
    foundry_model(store.location / "Microsoft" / "phi", "phi:1")
    (store.location / "Microsoft" / "phi" / damaged).write_text("[")
    whole = await commit_model(store)
    assert await store.list() == [whole]
    assert "phi" in caplog.text


async def test_removing_takes_the_models_whole_folder(store):
    foundry_model(store.location / "Microsoft" / "phi-1" / "v1", "phi:1")
    foundry_model(store.location / "Microsoft" / "phi-2" / "v1", "phi:2")
    assert await store.remove("phi:1")
    assert [path.name for path in (store.location / "Microsoft").iterdir()] == ["phi-2"]


async def test_removing_one_of_two_variants_in_a_folder_leaves_the_other(store):
    foundry_model(store.location / "Microsoft" / "phi" / "v1", "phi:1")
    foundry_model(store.location / "Microsoft" / "phi" / "v2", "phi:2")
    assert await store.remove("phi:1")
    assert [cached.info.id for cached in await store.list()] == ["phi:2"]

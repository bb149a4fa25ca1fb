"""The listing of last time, for when there is no network or no need for one."""

import json
import tempfile
import threading
import time
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from azure_stand_in import AzureStandIn, Variant
from cupola.catalog import Device, ModelInfo, PromptTemplate
from cupola.errors import CatalogError
from cupola_plugins.azure.snapshot import Origin, Snapshot, read_snapshot, write_snapshot

pytestmark = pytest.mark.anyio
MODEL = ModelInfo(
    id="phi-generic-cpu:3",
    alias="phi",
    source="azure",
    publisher="Microsoft",
    display_name="Phi",
    size_bytes=123_456_789,
    context_length=8192,
    max_output_tokens=2048,
    license="MIT",
    license_description="…",
    supports_tool_calling=True,
    created_unix=1_780_000_000,
    uri="azureml://registries/azureml/models/phi-generic-cpu/versions/3",
    parent="Phi:7",
    parent_uri="azureml://registries/azureml/models/Phi/versions/7",
    min_version="0.3.0",
    prompt_template=PromptTemplate(prompt="<|user|>"),
    supports_reasoning=True,
    tool_call_start="<tool>",
    tool_call_end="</tool>",
    reasoning_start="<think>",
    reasoning_end="</think>",
    model_settings=(("top_k", "40"),),
    is_test=True,
    input_modalities=("text", "image"),
    output_modalities=("text",),
    capabilities=("reasoning",),
    quantization=("RTN",),
    device_memory_bytes=5,
)


def set_age(snapshot, age_s):
    content = json.loads(snapshot.read_text())
    content["savedAtUnix"] = int(time.time() - age_s)
    snapshot.write_text(json.dumps(content))


@pytest.fixture
def azure():
    with AzureStandIn(Variant("x-generic-cpu"), Variant("y-generic-cpu")) as azure:
        yield azure


async def test_a_recent_listing_answers_without_any_network(azure, catalog_of):
    first = await catalog_of(azure).models()
    second = catalog_of(azure)
    assert await second.models() == first
    assert len(azure.requests) == 1
    assert time.time() - 60 < second.listed_at_unix <= time.time()


async def test_an_old_listing_is_asked_for_anew(azure, catalog_of, snapshot):
    await catalog_of(azure).models()
    set_age(snapshot, 4 * 3600 + 1)
    azure.catalog.variants.append(Variant("new-generic-cpu"))
    assert len(await catalog_of(azure).models()) == 3
    assert len(azure.requests) == 2
    assert len(read_snapshot(snapshot, source="azure").models) == 3


async def test_a_long_running_service_asks_anew_as_well_and_uses_what_others_wrote(azure, catalog_of, snapshot):
    long_running = catalog_of(azure, refresh_s=0.0)
    await long_running.models()
    await long_running.models()
    assert len(azure.requests) == 2
    waiting = catalog_of(azure)
    await waiting.models()
    assert len(azure.requests) == 2


async def test_an_old_listing_answers_when_the_network_does_not_and_tells_its_age(catalog_of, snapshot, caplog):
    with AzureStandIn(Variant("x-generic-cpu")) as azure:
        await catalog_of(azure).models()
    set_age(snapshot, 72 * 3600)
    catalog = catalog_of(azure)
    started = time.monotonic()
    assert [model.id for model in await catalog.models()] == ["x-generic-cpu:1"]
    assert time.monotonic() - started < 3
    assert "72.0 hours ago" in caplog.text
    assert time.time() - catalog.listed_at_unix == pytest.approx(72 * 3600, abs=60)


async def test_after_a_failure_nobody_waits_for_another_try(azure, catalog_of, snapshot):
    await catalog_of(azure).models()
    set_age(snapshot, 72 * 3600)
    azure.fail("catalog", status=503, times=None)
    catalog = catalog_of(azure)
    for _ in range(3):
        assert len(await catalog.models()) == 2
    assert len(azure.requests) == 1 + 4


async def test_an_overloaded_service_does_not_hold_up_a_listing_for_longer_than_set(azure, catalog_of, snapshot):
    await catalog_of(azure).models()
    set_age(snapshot, 72 * 3600)
    azure.fail("catalog", hold=True, times=None)
    started = time.monotonic()
    assert len(await catalog_of(azure, timeout_s=0.2).models()) == 2
    assert time.monotonic() - started < 3


async def test_without_network_and_snapshot_the_error_says_what_happened(azure, catalog_of, monkeypatch):
    url = "http://127.0.0.1:9/asset-gallery/v1.0/models"
    catalog = catalog_of(azure, catalog_url=url)
    for _ in range(2):
        with pytest.raises(CatalogError, match=r"127\.0\.0\.1:9/asset-gallery.*connect"):
            await catalog.models()


async def test_a_listing_for_other_devices_or_filters_does_not_stand_in_but_answers_offline(azure, catalog_of):
    await catalog_of(azure).models()
    other = catalog_of(azure)
    other.use_devices([Device("CUDAExecutionProvider", "GPU")])
    assert await other.models() == []
    assert len(azure.requests) == 2
    filtered = catalog_of(azure, deployment_options=("Contoso",))
    azure.fail("catalog", status=404)
    assert await filtered.models() == []  # what is remembered is the answer for the GPU, which was empty


async def test_a_listing_of_another_catalog_is_not_ours(azure, catalog_of):
    await catalog_of(azure).models()
    with AzureStandIn() as other:
        other.fail("catalog", status=404)
        with pytest.raises(CatalogError):
            await catalog_of(other).models()


async def test_a_cache_that_cannot_be_written_costs_only_the_memory_of_the_listing(azure, catalog_of, tmp_path):
    (tmp_path / "file").write_text("")
    assert len(await catalog_of(azure, path=tmp_path / "file" / "foundry.modelinfo.json").models()) == 2


async def test_files_of_an_old_listing_are_asked_for_where_it_came_from(azure, catalog_of):
    azure.catalog.variants[0].files = {"v1/genai_config.json": b"{}"}
    (model, _) = await catalog_of(azure).models()
    again = catalog_of(azure)
    await again.models()
    await again.files(model)
    assert "/regions/westeurope/" in azure.asked("registry")[0].path


def test_a_snapshot_comes_back_as_it_was(tmp_path):
    path = tmp_path / "new" / "foundry.modelinfo.json"
    origin = Origin("v2", ("CPU:CPUExecutionProvider",), ("Foundry Local on Devices",))
    bare = ModelInfo(id="x:1", alias="x", source="azure", publisher="me", device="NPU", provider="QNNExecutionProvider")
    snapshot = Snapshot([MODEL, bare], 1_790_000_000.0, origin, "eastus")
    write_snapshot(path, snapshot)
    assert read_snapshot(path, source="azure") == snapshot
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_snapshot_has_foundrys_shape(tmp_path):
    path = tmp_path / "foundry.modelinfo.json"
    write_snapshot(path, Snapshot([MODEL], 1_790_000_000.0, None, "eastus"))
    content = json.loads(path.read_text())
    (record,) = content.pop("models")
    assert content == {"version": 1, "savedAtUnix": 1_790_000_000}
    assert record == {
        "id": "phi-generic-cpu:3",
        "name": "phi-generic-cpu",
        "version": 3,
        "alias": "phi",
        "uri": MODEL.uri,
        "detectedRegion": "eastus",
        "providerType": "FoundryLocal",
        "modelType": "ONNX",
        "displayName": "Phi",
        "publisher": "Microsoft",
        "license": "MIT",
        "licenseDescription": "…",
        "task": "chat-completion",
        "minFLVersion": "0.3.0",
        "parentModelUri": MODEL.parent_uri,
        "toolCallStart": "<tool>",
        "toolCallEnd": "</tool>",
        "reasoningStart": "<think>",
        "reasoningEnd": "</think>",
        "promptTemplate": {"prompt": "<|user|>"},
        "modelSettings": {"parameters": [{"Name": "top_k", "Value": "40"}]},
        "runtime": {"deviceType": "CPU", "executionProvider": "CPUExecutionProvider"},
        "fileSizeMb": 117,
        "maxOutputTokens": 2048,
        "createdAt": 1_780_000_000,
        "supportsToolCalling": True,
        "supportsReasoning": True,
        "testModel": True,
        "fileSizeBytes": 123_456_789,
        "stringProperties": {
            "input_modalities": "text,image",
            "output_modalities": "text",
            "capabilities": "reasoning",
            "quantization": "RTN",
        },
        "intProperties": {"context_length": 8192},
        "vRamFootprintBytes": 5,
    }


def test_what_older_releases_wrote_is_read_and_what_is_bad_in_it_left_out(tmp_path):
    path = tmp_path / "foundry.modelinfo.json"
    old = {"name": "phi-generic-cpu:3", "version": "3", "alias": "phi", "promptTemplate": None, "fileSizeMb": 5}
    runtime = {"runtime": {"deviceType": "GPU", "executionProvider": "CUDAExecutionProvider"}}
    models = [
        {**old, **runtime, "cached": True, "providerType": "AzureFoundry", "modelSettings": {"parameters": []}},
        {**old, "runtime": {"deviceType": "TPU"}},
        {**old, "minFLVersion": "99.0"},
        {"name": 5},
        {"name": "unversioned"},
        "text",
    ]
    path.write_text(json.dumps({"version": 1, "savedAt": "2026-06-02T07:03:01+00:00", "models": models, "extra": 1}))
    snapshot = read_snapshot(path, source="azure")
    assert (snapshot.saved_unix, snapshot.origin) == (1_780_383_781, None)
    (model,) = snapshot.models
    assert (model.id, model.device, model.provider) == ("phi-generic-cpu:3", "GPU", "CUDAExecutionProvider")
    assert model.size_bytes == 5 << 20


async def test_foundrys_own_listing_answers_offline_and_is_replaced_online(azure, catalog_of, snapshot):
    write_snapshot(snapshot, Snapshot([MODEL], time.time()))
    azure.fail("catalog", status=404)
    assert [model.id for model in await catalog_of(azure).models()] == [MODEL.id]
    assert len(await catalog_of(azure).models()) == 2


@given(st.binary() | st.text().map(lambda text: json.dumps({"models": [text]}).encode()))
def test_any_file_is_a_snapshot_or_none(content):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x"
        path.write_bytes(content)
        snapshot = read_snapshot(path, source="azure")
    assert snapshot is None or snapshot.models == []


def test_a_reader_never_sees_half_a_snapshot(tmp_path):
    path = tmp_path / "foundry.modelinfo.json"
    models = [msgspec.structs.replace(MODEL, id=f"m{number}:1") for number in range(200)]
    write_snapshot(path, Snapshot(models, 0.0))
    done = threading.Event()

    def write():
        for moment in range(30):
            write_snapshot(path, Snapshot(models, float(moment)))
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not done.is_set():
        assert len(read_snapshot(path, source="azure").models) == 200
    writer.join()

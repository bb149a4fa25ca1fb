"""What is asked of the catalog, field by field, and how its pages become one list."""

import anyio
import pytest

from azure_stand_in import AzureStandIn, Variant
from cupola.catalog import Device
from cupola.errors import CatalogError

pytestmark = pytest.mark.anyio
CPU, CUDA = Device("CPUExecutionProvider", "CPU"), Device("CUDAExecutionProvider", "GPU")


def variants(count):
    return [Variant(f"m{number}-generic-cpu", alias=f"m{number}") for number in range(count)]


def ids(models):
    return [model.id for model in models]


async def test_version_2_asks_exactly_what_foundry_local_asks(catalog_of):
    with AzureStandIn() as azure:
        await catalog_of(azure).models()
    (asked,) = azure.asked("catalog")
    assert asked.path == "/asset-gallery/v1.0/models"
    assert asked.headers["user-agent"] == "AzureAiStudio"
    assert asked.headers["x-ms-use-full-service-contracts"] == "true"
    assert asked.headers["content-type"] == "application/json"
    assert asked.body.decode() == (
        '{"filters":[{"field":"type","operator":"eq","values":["models"]},'
        '{"field":"kind","operator":"eq","values":["Versioned"]},'
        '{"field":"annotations/systemCatalogData/deploymentOptions","operator":"eq",'
        '"values":["Foundry Local on Devices"]},'
        '{"field":"annotations/archived","operator":"NotEquals","values":["true"]},'
        '{"field":"labels","operator":"eq","values":["latest"]},'
        '{"field":"properties/variantInfo/variantMetadata/device","operator":"eq","values":["cpu"]},'
        '{"field":"properties/variantInfo/variantMetadata/executionProvider","operator":"eq",'
        '"values":["CPUExecutionProvider"]}],"pageSize":50}'
    )


async def test_version_1_asks_exactly_what_foundry_local_asks(catalog_of):
    with AzureStandIn() as azure:
        await catalog_of(azure, "v1", region="eastus").models()
    (asked,) = azure.asked("catalog")
    assert asked.path == "/api/eastus/ux/v1.0/entities/crossRegion"
    assert asked.headers["user-agent"] == "AzureAiStudio"
    assert asked.json == {
        "resourceIds": [{"resourceId": "azureml", "entityContainerType": "Registry"}],
        "indexEntitiesRequest": {
            "filters": [
                {"field": "type", "operator": "eq", "values": ["models"]},
                {"field": "kind", "operator": "eq", "values": ["Versioned"]},
                {"field": "labels", "operator": "eq", "values": ["latest"]},
                {"field": "annotations/tags/foundryLocal", "operator": "eq", "values": [""]},
                {"field": "properties/variantInfo/variantMetadata/device", "operator": "eq", "values": ["cpu"]},
                {
                    "field": "properties/variantInfo/variantMetadata/executionProvider",
                    "operator": "eq",
                    "values": ["CPUExecutionProvider"],
                },
            ],
            "pageSize": 50,
        },
    }


@pytest.mark.parametrize("protocol", ["v1", "v2"])
async def test_every_device_and_provider_of_the_machine_is_asked_for_once(catalog_of, protocol):
    gpu = Variant("x-cuda-gpu", device="gpu", provider="CUDAExecutionProvider")
    npu = Variant("x-qnn-npu", device="npu", provider="QNNExecutionProvider")
    with AzureStandIn(Variant("x-generic-cpu"), gpu, npu) as azure:
        catalog = catalog_of(azure, protocol)
        catalog.use_devices([CUDA, CPU, Device("CPUExecutionProvider", "CPU", index=1)])
        assert ids(await catalog.models()) == ["x-cuda-gpu:1", "x-generic-cpu:1"]
        assert len(azure.asked("catalog")) == 2


async def test_settings_can_say_what_to_list_models_for(catalog_of):
    npu = Variant("x-qnn-npu", device="npu", provider="QNNExecutionProvider")
    with AzureStandIn(Variant("x-generic-cpu"), npu) as azure:
        catalog = catalog_of(azure, devices=("NPU:QNNExecutionProvider",))
        catalog.use_devices([CPU])
        assert ids(await catalog.models()) == ["x-qnn-npu:1"]


@pytest.mark.parametrize(("protocol", "paging"), [("v2", "token"), ("v1", "token"), ("v1", "skip")])
async def test_a_listing_of_many_pages_is_whole_and_in_order(catalog_of, protocol, paging):
    with AzureStandIn(*variants(120), paging=paging) as azure:
        assert ids(await catalog_of(azure, protocol).models()) == [f"m{number}-generic-cpu:1" for number in range(120)]
        assert len(azure.asked("catalog")) == 3
        second = azure.asked("catalog")[1].json
        second = second.get("indexEntitiesRequest", second)
        assert ("skip" in second, "continuationToken" in second) == (paging == "skip", paging == "token")


@pytest.mark.parametrize("form", ["entity", "summary"])
async def test_both_forms_of_version_2_say_the_same_of_a_model(catalog_of, form):
    variant = Variant("phi-generic-cpu", version=7, alias="phi", size_bytes=4 << 30)
    with AzureStandIn(variant, form=form) as azure:
        (model,) = await catalog_of(azure).models()
    assert (model.id, model.alias, model.source, model.publisher) == ("phi-generic-cpu:7", "phi", "azure", "Microsoft")
    assert (model.display_name, model.task, model.license) == ("Phi-Generic-Cpu", "chat-completion", "apache-2.0")
    assert (model.device, model.provider) == ("CPU", "CPUExecutionProvider")
    assert (model.size_bytes, model.device_memory_bytes) == (4 << 30, 2 << 30)
    assert (model.context_length, model.max_output_tokens) == (8192, 2048)
    assert model.supports_tool_calling
    assert model.created_unix == 1_780_383_781
    assert model.uri == "azureml://registries/azureml/models/phi-generic-cpu/versions/7"
    assert (model.parent, model.quantization) == ("phi:1", ("RTN",))


async def test_deployment_options_and_tags_can_be_other_than_azures(catalog_of):
    private = Variant("a-generic-cpu", catalog={"deploymentOptions": ["Contoso"]}, tags={"foundryLocal": "test"})
    with AzureStandIn(private, Variant("b-generic-cpu")) as azure:
        v2 = catalog_of(azure, deployment_options=("Contoso",))
        assert ids(await v2.models()) == ["a-generic-cpu:1"]
        v1 = catalog_of(azure, "v1", tags=("test", ""))
        assert ids(await v1.models()) == ["a-generic-cpu:1", "b-generic-cpu:1"]
        assert [model.is_test for model in await v1.models()] == [True, False]


@pytest.mark.parametrize("protocol", ["v1", "v2"])
async def test_a_listing_that_goes_in_circles_ends_in_an_error(catalog_of, protocol):
    with AzureStandIn(*variants(3), paging="loop", page_size=1) as azure:
        with pytest.raises(CatalogError, match="circles"):
            await catalog_of(azure, protocol).models()
        assert len(azure.requests) < 5


async def test_a_device_that_the_catalog_refuses_costs_only_its_own_models(catalog_of, snapshot, caplog):
    with AzureStandIn(*variants(2)) as azure:
        azure.fail("catalog", status=400)
        catalog = catalog_of(azure)
        catalog.use_devices([CUDA, CPU])
        assert len(await catalog.models()) == 2
        assert not snapshot.exists()  # a listing with a hole must not stand in for asking
    assert "GPU:CUDAExecutionProvider" in caplog.text


async def test_many_listings_at_once_ask_the_network_once(catalog_of):
    with AzureStandIn(*variants(2)) as azure:
        catalog = catalog_of(azure)
        async with anyio.create_task_group() as group:
            for _ in range(10):
                group.start_soon(catalog.models)
        assert len(azure.requests) == 1

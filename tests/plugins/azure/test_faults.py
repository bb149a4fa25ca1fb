"""Networks as they are."""

import itertools
import time

import anyio
import httpx
import pytest

from azure_stand_in import AzureStandIn, Variant
from cupola.errors import CatalogError, DownloadError
from cupola_plugins.azure.client import Client, Request, RetryPolicy, UnreachableError, without_query
from cupola_plugins.azure.service import Endpoints, region_of_cluster, regions_to_try

pytestmark = pytest.mark.anyio


@pytest.fixture
def azure():
    with AzureStandIn(Variant("x-generic-cpu", files={"v1/genai_config.json": b"{}"})) as azure:
        yield azure


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
@pytest.mark.parametrize("protocol", ["v1", "v2"])
async def test_a_service_in_trouble_is_asked_again(azure, catalog_of, status, protocol):
    azure.fail("catalog", status=status)
    assert len(await catalog_of(azure, protocol).models()) == 1
    assert len(azure.asked("catalog")) == 2


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 501])
async def test_a_service_that_refuses_is_not_asked_again(azure, catalog_of, status):
    azure.fail("catalog", status=status, times=None)
    with pytest.raises(CatalogError, match=str(status)):
        await catalog_of(azure).models()
    assert len(azure.asked("catalog")) == 1


@pytest.mark.parametrize(
    "fault", [{"drop_after": 0}, {"drop_after": 100}, {"cut_to": 100}, {"corrupt": True}, {"drop_after": (1, 1500)}]
)
async def test_a_broken_answer_is_asked_for_again(azure, catalog_of, fault):
    azure.fail("catalog", times=2, **fault)
    assert len(await catalog_of(azure).models()) == 1
    assert len(azure.asked("catalog")) == 3


async def test_four_attempts_are_made_at_most(azure, catalog_of):
    azure.fail("catalog", status=503, times=None)
    with pytest.raises(CatalogError, match="503 Service Unavailable"):
        await catalog_of(azure).models()
    assert len(azure.asked("catalog")) == 4


async def test_retry_after_is_kept_to(azure, catalog_of):
    azure.fail("catalog", status=429, retry_after="1")
    started = time.monotonic()
    assert len(await catalog_of(azure).models()) == 1
    assert time.monotonic() - started >= 1


@pytest.mark.parametrize("retry_after", ["3600", "Fri, 31 Dec 2099 23:59:59 GMT"])
async def test_who_asks_for_hours_is_not_waited_for(azure, catalog_of, retry_after):
    azure.fail("catalog", status=429, retry_after=retry_after, times=None)
    with pytest.raises(CatalogError, match="429"):
        await catalog_of(azure).models()
    assert len(azure.asked("catalog")) == 1


async def test_an_answer_that_only_trickles_is_given_up_and_asked_for_again(azure, catalog_of):
    azure.fail("catalog", trickle=(10, 0.05))
    assert len(await catalog_of(azure, timeout_s=0.5).models()) == 1
    assert len(azure.asked("catalog")) == 2


async def test_pauses_double_and_differ():
    pauses = []

    class Down:
        def stream(self, *_, **__):
            raise httpx.ConnectError("no route")

    async def pause(seconds):
        pauses.append(seconds)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(anyio, "sleep", pause)
        with pytest.raises(UnreachableError, match="no route"):
            await Client(Down(), RetryPolicy()).send(Request("GET", ["http://x/"], {}), lambda *_: None)
    assert [low <= pause <= 1.5 * low for low, pause in zip([0.5, 1, 2], pauses, strict=True)] == [True] * 3


@pytest.mark.parametrize("down", [["centralus"], ["centralus", "eastus"]])
async def test_version_1_lists_from_a_neighbour_when_a_region_is_down(azure, catalog_of, down):
    azure.down.update(down)
    catalog = catalog_of(azure, "v1")
    assert len(await catalog.models()) == 1
    asked = [path.split("/")[2] for path, _ in itertools.groupby(azure.asked("catalog"), lambda each: each.path)]
    assert asked == ["centralus", "eastus", "eastus2"][: len(down) + 1]


async def test_a_region_that_fails_in_mid_listing_is_left_and_its_pages_with_it(catalog_of):
    with AzureStandIn(*[Variant(f"m{number}-generic-cpu") for number in range(60)]) as azure:
        catalog = catalog_of(azure, "v1")
        azure.fail("catalog", status=503, times=4, only="nowhere")
        real, azure.catalog.index = azure.catalog.index, lambda request: _down_on_page_2(azure, real, request)
        assert len(await catalog.models()) == 60
        regions = [asked.path.split("/")[2] for asked in azure.asked("catalog")]
        assert regions == ["centralus"] * 2 + ["centralus"] * 3 + ["eastus"] * 2


def _down_on_page_2(azure, answer, request):
    if request["indexEntitiesRequest"].get("continuationToken") and not azure.faults.struck:
        azure.fail("catalog", status=503, times=3, only="centralus")
        raise ConnectionResetError
    return answer(request)


async def test_the_registry_is_asked_in_a_neighbouring_region_when_ours_is_down(azure, catalog_of):
    azure.down.add("westeurope")  # which the catalog's answers come from
    catalog = catalog_of(azure)
    (model,) = await catalog.models()
    assert len(await catalog.files(model)) == 1
    regions = [asked.path.split("/")[2] for asked in azure.asked("registry")]
    assert regions == ["westeurope", "westeurope", "northeurope"]


async def test_without_fallback_only_one_region_is_asked(azure, catalog_of):
    azure.down.add("westeurope")
    catalog = catalog_of(azure, region_fallback=False)
    (model,) = await catalog.models()
    with pytest.raises(DownloadError, match="westeurope"):
        await catalog.files(model)


async def test_when_every_region_is_down_the_error_says_so(azure, catalog_of):
    catalog = catalog_of(azure)
    (model,) = await catalog.models()
    azure.fail("registry", status=503, times=None)
    with pytest.raises(DownloadError, match=r"westeurope.*503.*\(6 other regions failed as well\)"):
        await catalog.files(model)


async def test_version_1_finds_its_region_by_asking_the_gallery(azure, catalog_of):
    azure.region = "southeastasia"
    endpoints = Endpoints(azure.index_url, azure.registry_url, detection=azure.gallery_url)
    catalog = catalog_of(azure, "v1", endpoints=endpoints)
    await catalog.models()
    assert azure.asked("detection")[0].body == b'{"filters":[],"pageSize":1}'
    assert azure.asked("catalog")[0].path.startswith("/api/southeastasia/")


async def test_a_region_that_cannot_be_found_out_is_the_default(azure, catalog_of):
    azure.fail("detection", status=404)
    endpoints = Endpoints(azure.index_url, azure.registry_url, detection=azure.gallery_url)
    await catalog_of(azure, "v1", endpoints=endpoints).models()
    assert azure.asked("catalog")[0].path.startswith("/api/centralus/")


async def test_a_region_that_is_set_is_taken_whatever_answers_say(azure, catalog_of):
    catalog = catalog_of(azure, region="eastus2")
    (model,) = await catalog.models()
    await catalog.files(model)
    assert "/regions/eastus2/" in azure.asked("registry")[0].path


async def test_proxies_of_the_environment_are_used(catalog_of, monkeypatch):
    with AzureStandIn(Variant("x-generic-cpu")) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.delenv("no_proxy", raising=False)
        catalog = catalog_of(proxy, catalog_url="http://catalog.example/asset-gallery/v1.0/models")
        assert len(await catalog.models()) == 1
        assert proxy.asked("catalog")[0].headers["host"] == "catalog.example"


async def test_a_certificate_file_that_is_none_is_an_error_that_says_so(azure, catalog_of, monkeypatch, tmp_path):
    (tmp_path / "ca.pem").write_text("no certificate")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    with pytest.raises(CatalogError, match="certificate settings of the environment"):
        await catalog_of(azure).models()


def test_regions_and_addresses():
    assert region_of_cluster("vienna-eastus-01") == "eastus"
    assert region_of_cluster("vienna-evil.example/-01") == ""
    assert regions_to_try("eastus")[:2] == ["eastus", "centralus"]
    assert regions_to_try("elsewhere")[0] == "elsewhere"
    assert all(len(set(regions_to_try(region))) == len(regions_to_try(region)) for region in ("eastus", "japaneast"))
    assert without_query("https://me:pw@host/a/b?sig=secret#x") == "https://host/a/b"
    assert without_query("https://[") == "an invalid address"

"""From the catalog into the cache, through everything that goes wrong on the way."""

import random

import pytest

from azure_stand_in import AzureStandIn, Variant
from cupola.downloads import HttpDownloader, acquire
from cupola.errors import DigestMismatchError, DownloadError
from cupola.settings import DownloadSettings
from cupola_plugins.filesystem import FilesystemCache

pytestmark = pytest.mark.anyio
FILES = {
    "v3/genai_config.json": b"{}",
    "v3/model.onnx": random.Random(1).randbytes(300_000),
    "v3/model.onnx.data": random.Random(2).randbytes(3_000_000),
    "v3/tokenizer.json": random.Random(3).randbytes(40_000),
}
SIZE = sum(map(len, FILES.values()))


@pytest.fixture
def azure():
    with AzureStandIn(Variant("x-generic-cpu", files=FILES, size_bytes=SIZE)) as azure:
        yield azure


@pytest.fixture
def cache(tmp_path):
    return FilesystemCache(tmp_path / "cache")


async def brought(azure, catalog_of, cache, *, workers=4):
    catalog = catalog_of(azure)
    (model,) = await catalog.models()
    settings = DownloadSettings(workers=workers, chunk_mb=0.2, retry_pause_s=0.01, stall_timeout_s=2.0, retries=8)
    cached = await acquire(model, catalog, cache, HttpDownloader(settings), lambda event: None)
    root = cached.path.parent
    assert {name: (root / name).read_bytes() for name in FILES} == FILES
    return cached


async def test_a_model_arrives_whole_where_foundry_would_put_it(azure, catalog_of, cache):
    cached = await brought(azure, catalog_of, cache)
    assert cached.path == cache.location / "Microsoft" / "x-generic-cpu-1" / "v3"


async def test_addresses_that_expire_underway_are_asked_for_anew(azure, catalog_of, cache):
    azure.uses = 9  # of 17 requests for chunks, and one for the listing
    await brought(azure, catalog_of, cache)
    assert len(azure.asked("registry")) > 1


@pytest.mark.parametrize("seed", range(3))
async def test_a_network_that_breaks_off_at_random_bytes_only_costs_time(catalog_of, cache, seed):
    with AzureStandIn(Variant("x-generic-cpu", files=FILES), seed=seed) as azure:
        azure.fail("blob", drop_after=(0, 200_000), times=None, chance=0.4)
        await brought(azure, catalog_of, cache)
        assert azure.faults.struck


@pytest.mark.parametrize(
    "fault", [{"status": 503}, {"status": 429, "retry_after": "0"}, {"whole": True}, {"status": 408}]
)
async def test_a_service_in_trouble_is_asked_again(azure, catalog_of, cache, fault):
    azure.fail("blob", times=3, **fault)
    await brought(azure, catalog_of, cache)


async def test_a_body_that_is_too_short_never_gets_into_the_cache_and_the_next_try_mends_it(azure, catalog_of, cache):
    azure.fail("blob", cut_to=1000, only="tokenizer.json")
    with pytest.raises(DigestMismatchError, match="40,000 bytes but has 1,000"):
        await brought(azure, catalog_of, cache)
    assert await cache.list() == []
    await brought(azure, catalog_of, cache)


async def test_a_file_that_is_not_what_was_announced_never_gets_into_the_cache(azure, catalog_of, cache):
    azure.wrong_md5.add("v3/model.onnx")
    with pytest.raises(DigestMismatchError, match=r"model\.onnx"):
        await brought(azure, catalog_of, cache)
    assert await cache.list() == []
    azure.wrong_md5.clear()
    await brought(azure, catalog_of, cache)


async def test_a_download_that_failed_goes_on_where_it_was(azure, catalog_of, cache):
    azure.fail("blob", only="model.onnx.data", status=404, times=None)
    with pytest.raises(DownloadError, match="404") as caught:
        await brought(azure, catalog_of, cache, workers=1)  # one after the other: the small files are there by then
    assert "sig=" not in str(caught.value)
    azure.faults.clear()
    before = {asked.path for asked in azure.asked("blob")}
    azure.requests.clear()
    await brought(azure, catalog_of, cache)
    whole = [path for path in before if path.endswith(("tokenizer.json", "genai_config.json"))]
    assert not {asked.path for asked in azure.asked("blob")} & set(whole)

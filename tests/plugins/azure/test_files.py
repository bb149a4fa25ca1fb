"""Where the files of a model are: registry, container, addresses."""

import hashlib

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from azure_stand_in import AzureStandIn, Variant
from cupola.downloads import HttpDownloader
from cupola.errors import DownloadError
from cupola_plugins.azure.container import _blob_page

pytestmark = pytest.mark.anyio
FILES = {
    "v3/genai_config.json": b"{}",
    "v3/model.onnx": b"graph" * 100,
    "v3/model.onnx.data": b"weights" * 1000,
    "v3/with space & more+.txt": b"odd",
    "v3/inference_model.json": b"not wanted",
    "v3/empty.txt": b"",
}
WANTED = {name: content for name, content in FILES.items() if not name.endswith("inference_model.json")}


@pytest.fixture
def azure():
    with AzureStandIn(Variant("x-generic-cpu", 3, files=FILES)) as azure:
        yield azure


async def files_of(catalog):
    (model,) = await catalog.models()
    return await catalog.files(model)


async def test_files_come_with_sizes_digests_and_addresses_that_work(azure, catalog_of):
    files = await files_of(catalog_of(azure))
    assert {file.path: file.size_bytes for file in files} == {name: len(data) for name, data in WANTED.items()}
    async with httpx.AsyncClient() as client:
        for file in files:
            content = (await client.get(file.url)).content
            assert content == WANTED[file.path]
            assert file.md5 == hashlib.md5(content).hexdigest()
    (asked,) = azure.asked("registry")
    assert asked.query == {"assetId": "azureml://registries/azureml/models/x-generic-cpu/versions/3"}
    assert asked.headers["user-agent"] == "AzureAiStudio"


async def test_a_container_of_many_pages_is_listed_whole(azure, catalog_of):
    azure.blobs_a_page = 1
    assert len(await files_of(catalog_of(azure))) == len(WANTED)
    assert [asked.query.get("marker", "") for asked in azure.asked("container")][:2] == ["", "2!MQ=="]


async def test_a_container_without_digests_is_listed_by_sizes(azure, catalog_of):
    azure.announce_md5 = False
    assert {file.md5 for file in await files_of(catalog_of(azure))} == {""}


async def test_each_call_gives_new_addresses_because_old_ones_expire(azure, catalog_of):
    catalog = catalog_of(azure)
    first = await files_of(catalog)
    azure.expire_addresses()
    second = await files_of(catalog)
    async with httpx.AsyncClient() as client:
        assert (await client.get(first[0].url)).status_code == 403
        assert (await client.get(second[0].url)).status_code == 200
    assert [file.path for file in first] == [file.path for file in second]


@pytest.mark.parametrize("name", ["../evil", "v3/../../evil", "/etc/passwd"])
async def test_names_that_leave_the_folder_end_the_download(azure, catalog_of, tmp_path, name):
    catalog = catalog_of(azure)
    (model,) = await catalog.models()
    azure.catalog.variants[0].files = {**FILES, name: b"evil"}
    files = await catalog.files(model)
    with pytest.raises(DownloadError, match="evil|passwd"):
        await HttpDownloader().fetch(files, model, tmp_path / "model", lambda event: None)
    assert not list(tmp_path.rglob("*evil*"))


async def test_a_listing_that_is_cut_off_is_asked_for_again(azure, catalog_of):
    azure.fail("container", cut_to=300)
    azure.fail("container", drop_after=200)
    assert len(await files_of(catalog_of(azure))) == len(WANTED)
    assert len(azure.asked("container")) == 3


async def test_a_listing_that_stays_broken_is_an_error_without_the_signature(azure, catalog_of):
    azure.fail("container", cut_to=300, times=None)
    with pytest.raises(DownloadError, match="listing is not valid XML") as caught:
        await files_of(catalog_of(azure))
    assert "sig" not in str(caught.value)
    assert "/blobs/x-generic-cpu-3" in str(caught.value)


async def test_an_expired_signature_on_the_listing_is_an_error_that_says_so(azure, catalog_of):
    azure.uses = 0
    with pytest.raises(DownloadError, match="403"):
        await files_of(catalog_of(azure))


async def test_a_model_that_the_registry_does_not_know_is_an_error_at_once(azure, catalog_of):
    catalog = catalog_of(azure)
    (model,) = await catalog.models()
    azure.catalog.variants.clear()
    with pytest.raises(DownloadError, match="404"):
        await catalog.files(model)
    assert len(azure.asked("registry")) == 1


async def test_a_container_of_nothing_is_an_error(azure, catalog_of):
    azure.catalog.variants[0].files.clear()
    with pytest.raises(DownloadError, match="empty"):
        await files_of(catalog_of(azure))


@pytest.mark.parametrize(
    ("xml", "reason"),
    [
        (b"<Error><Code>Busy</Code></Error>", "'Error'"),
        (b'<!DOCTYPE x [<!ENTITY a "b">]><EnumerationResults/>', "document type"),
        (b"<EnumerationResults><Blobs><Blob><Name>a</Name></Blob></Blobs></EnumerationResults>", "no size"),
        (b"<EnumerationResults><Blobs><Blob><Name/></Blob></Blobs></EnumerationResults>", "no name"),
        (b"", "not valid XML"),
    ],
)
def test_what_is_no_listing_is_refused(xml, reason):
    with pytest.raises(ValueError, match=reason):
        _blob_page(xml, "http://host/c?sig=x")


@given(st.binary(max_size=200))
def test_any_bytes_are_a_listing_or_a_value_error(data):
    with pytest.raises(ValueError, match="listing"):
        _blob_page(data, "http://host/c?sig=x")


def test_folders_and_encoded_names_are_understood():
    blob = "<Blob><Name{}>{}</Name><Properties><Content-Length>{}</Content-Length>{}</Properties></Blob>"
    blobs = (
        blob.format("", "v1/", 0, "")
        + blob.format("", "v1", 0, "<ResourceType>directory</ResourceType>")
        + blob.format(' Encoded="true"', "v1/a%20b", 3, "<Content-MD5>AAAAAAAAAAAAAAAAAAAAAA==</Content-MD5>")
        + blob.format("", "v1/c", 4, "<Content-MD5>not base64</Content-MD5>")
    )
    xml = f"<EnumerationResults><Blobs>{blobs}</Blobs><NextMarker>next</NextMarker></EnumerationResults>"
    page = _blob_page(xml.encode(), "http://host/c/?sig=x%3D")
    assert page.marker == "next"
    first, second = page.files
    assert (first.path, first.size_bytes, first.md5) == ("v1/a b", 3, "0" * 32)
    assert first.url == "http://host/c/v1/a%20b?sig=x%3D"
    assert (second.path, second.md5) == ("v1/c", "")

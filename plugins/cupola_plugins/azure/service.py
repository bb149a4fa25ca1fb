"""The services of one catalog: model listings and the files of a model; and Azure's regions."""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass

import httpx
import msgspec
from msgspec import Raw

from cupola.catalog import ModelInfo, RemoteFile
from cupola.settings import FoundryCatalogSettings
from cupola_plugins.azure.client import (
    Client,
    RefusedError,
    Request,
    RetryPolicy,
    UnreachableError,
    open_client,
    unreachable,
)
from cupola_plugins.azure.container import list_container, locate
from cupola_plugins.azure.protocols import AssetGallery, Cursor, EntitiesIndex, Page, Query
from cupola_plugins.azure.records import Record, RecordError, model_of

logger = logging.getLogger(__name__)
_GALLERY = "https://api.catalog.azureml.ms/asset-gallery/v1.0/models"
_INDEX = "https://ai.azure.com/api/{region}/ux/v1.0"
_REGISTRY = "https://{region}.api.azureml.ms/modelregistry/v1.0/registry/models/nonazureaccount"
_CLUSTER_HEADER = "azureml-served-by-cluster"
_MAX_PAGES = 1000
DEFAULT_REGION = "centralus"
PLACEHOLDER = "{region}"
# Each row lists neighbours. Every region has a copy of the public registry.
_NEIGHBOURS = (
    ("centralus", "eastus", "eastus2", "southcentralus", "northcentralus", "westus2", "westus", "westus3"),
    ("westeurope", "northeurope", "uksouth", "francecentral", "germanywestcentral", "swedencentral", "italynorth"),
    ("southeastasia", "eastasia", "japaneast", "koreacentral", "australiaeast", "centralindia", "southindia"),
)
_DISTANT = ("centralus", "eastus", "westeurope", "southeastasia")
_MAX_NEIGHBOURS = 3
_CLUSTER = re.compile(r"vienna-([a-z0-9]+)-\d+", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Endpoints:
    """The URLs of the services. They may contain "{region}".

    Attributes:
        catalog: The service that lists models.
        registry: The service that locates their files.
        detection: The service whose responses name the nearest region; "" if there is none.
    """

    catalog: str
    registry: str
    detection: str


def endpoints_of(settings: FoundryCatalogSettings) -> Endpoints:
    """Return the URLs of the settings, with Azure's as defaults. Only Azure's own catalog detects the region."""
    own = _INDEX if settings.protocol == "v1" else _GALLERY
    is_azure = not (settings.catalog_url or settings.registry_url)
    return Endpoints(
        catalog=(settings.catalog_url or own).rstrip("/"),
        registry=settings.registry_url or _REGISTRY,
        detection=_GALLERY if is_azure else "",
    )


@dataclass(frozen=True, slots=True)
class Listing:
    """The models of a catalog. `is_complete` is False if the catalog refused one of the queries."""

    models: Sequence[ModelInfo]
    is_complete: bool


class FoundryService:
    """Requests listings and files from one catalog. Remembers the region of its responses.

    Attributes:
        region: The region, "" until it is known.
    """

    def __init__(
        self,
        settings: FoundryCatalogSettings,
        endpoints: Endpoints,
        *,
        source: str,
        retry_policy: RetryPolicy,
        region: str = "",
    ) -> None:
        self.region = settings.region or region
        self._settings = settings
        self._endpoints = endpoints
        self._source = source
        self._retry_policy = retry_policy
        self._protocol = EntitiesIndex(settings) if settings.protocol == "v1" else AssetGallery(settings)

    async def listing(self, queries: Sequence[Query]) -> Listing:
        """List the models for all queries. Of two with the same id, the first is kept.

        Raises:
            UnreachableError: No region responded.
            RefusedError: The catalog refused every query.
        """
        found: dict[str, ModelInfo] = {}
        refusals: list[RefusedError] = []
        async with open_client(self._retry_policy) as client:
            await self._detect_region(client, self._endpoints.catalog)
            for query in queries:
                try:
                    records = await self._records(client, query)
                except RefusedError as error:
                    logger.warning("The catalog %s does not list models for %s: %s", self._source, query, error)
                    refusals.append(error)
                else:
                    for info in self._read(records):
                        found.setdefault(info.id.lower(), info)
        if refusals and len(refusals) == len(queries):
            raise refusals[0]
        return Listing([*found.values()], not refusals)

    async def files(self, model: ModelInfo) -> Sequence[RemoteFile]:
        """List the files of a model, with signed URLs that are valid for some hours.

        Raises:
            UnreachableError: No region responded.
            RefusedError: A service refused the request.
            ValueError: A response is invalid. The text is meant for users.
        """
        async with open_client(self._retry_policy) as client:
            await self._detect_region(client, self._endpoints.registry)
            registries = self._addresses(self._endpoints.registry)
            files = await list_container(client, await locate(client, registries, model.uri))
        if not files:
            raise ValueError("its container is empty")
        return files

    async def _records(self, client: Client, query: Query) -> Sequence[Raw]:
        """Return all records of a query. If a region fails, start again in the next: cursors belong to a region."""
        causes = []
        for address in self._addresses(self._endpoints.catalog):
            try:
                return await self._pages(client, address + self._protocol.path, query)
            except UnreachableError as error:
                logger.info("%s", error)
                causes.append(str(error))
        raise unreachable(causes)

    async def _pages(self, client: Client, address: str, query: Query) -> Sequence[Raw]:
        records: list[Raw] = []
        cursors = {Cursor()}
        cursor = Cursor()
        while len(cursors) <= _MAX_PAGES:
            headers = {**self._protocol.headers, "Content-Type": "application/json"}
            request = Request("POST", [address], headers, self._protocol.body(query, cursor))
            page = await client.send(request, self._page)
            records += page.records
            if page.next is None:
                return records
            if page.next in cursors:
                break
            cursor = page.next
            cursors.add(cursor)
        raise RefusedError("its listing goes in circles: a page repeats", 0)

    def _page(self, body: bytes, headers: httpx.Headers) -> Page:
        self._note_region(headers)
        return self._protocol.page(body)

    def _read(self, records: Sequence[Raw]) -> list[ModelInfo]:
        """Convert the records. Log and skip those that cannot be listed."""
        models = []
        for raw in records:
            try:
                data = msgspec.json.decode(raw)
                models.append(model_of(data, source=self._source))
            except (RecordError, ValueError) as error:
                name = Record(data).text("assetId") if isinstance(error, RecordError) else ""
                logger.warning("Skipped %s in the catalog %s: %s", name or "a record", self._source, error)
        return models

    def _addresses(self, template: str) -> list[str]:
        return addresses(template, self.region, fallback=self._settings.region_fallback)

    async def _detect_region(self, client: Client, template: str) -> None:
        """Detect the nearest region if a URL needs it. If that fails, the default region stays."""
        if self.region or PLACEHOLDER not in template:
            return
        if self._endpoints.detection:
            headers = {**AssetGallery.headers, "Content-Type": "application/json"}
            request = Request("POST", [self._endpoints.detection], headers, b'{"filters":[],"pageSize":1}')
            try:
                await client.send(request, lambda _, headers: self._note_region(headers))
            except (UnreachableError, RefusedError) as error:
                logger.info("The region stays %s: %s", DEFAULT_REGION, error)

    def _note_region(self, headers: httpx.Headers) -> None:
        if not self._settings.region:
            self.region = region_of_cluster(headers.get(_CLUSTER_HEADER, "")) or self.region


def region_of_cluster(header: str) -> str:
    """Return "eastus" for the header `azureml-served-by-cluster: vienna-eastus-01`, "" for any other value."""
    match = _CLUSTER.search(header)
    return match[1].lower() if match else ""


def regions_to_try(region: str) -> list[str]:
    """Return the region, its neighbours, then one region of each other part of the world."""
    row = next((row for row in _NEIGHBOURS if region in row), ())
    neighbours = [other for other in row if other != region][:_MAX_NEIGHBOURS]
    return list(dict.fromkeys([region, *neighbours, *_DISTANT]))


def addresses(template: str, region: str, *, fallback: bool) -> list[str]:
    """Return the URLs for all regions to try; a URL without "{region}" is the only one."""
    if PLACEHOLDER not in template:
        return [template]
    regions = regions_to_try(region or DEFAULT_REGION)
    return [template.replace(PLACEHOLDER, name) for name in (regions if fallback else regions[:1])]

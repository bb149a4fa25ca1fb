"""One catalog's services: what it lists for a machine, and where the files of a model are."""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass

import httpx
import msgspec
from msgspec import Raw

from cupola.catalog import ModelInfo, RemoteFile
from cupola.settings import FoundryCatalogSettings
from cupola_plugins.azure.client import Client, Patience, RefusedError, Request, UnreachableError, open_client
from cupola_plugins.azure.container import list_container, locate
from cupola_plugins.azure.protocols import AssetGallery, Cursor, EntitiesIndex, Page, Query
from cupola_plugins.azure.records import Record, RecordError, model_of

logger = logging.getLogger(__name__)
_GALLERY = "https://api.catalog.azureml.ms/asset-gallery/v1.0/models"
_INDEX = "https://ai.azure.com/api/{region}/ux/v1.0"
_REGISTRY = "https://{region}.api.azureml.ms/modelregistry/v1.0/registry/models/nonazureaccount"
_CLUSTER_HEADER = "azureml-served-by-cluster"
_MOST_PAGES = 1000
DEFAULT_REGION = "centralus"
PLACEHOLDER = "{region}"
# Those of one row are neighbours. Every region has a copy of the public registry.
_NEIGHBOURS = (
    ("centralus", "eastus", "eastus2", "southcentralus", "northcentralus", "westus2", "westus", "westus3"),
    ("westeurope", "northeurope", "uksouth", "francecentral", "germanywestcentral", "swedencentral", "italynorth"),
    ("southeastasia", "eastasia", "japaneast", "koreacentral", "australiaeast", "centralindia", "southindia"),
)
_FARTHER = ("centralus", "eastus", "westeurope", "southeastasia")
_MOST_NEIGHBOURS = 3
_CLUSTER = re.compile(r"vienna-([a-z0-9]+)-\d+", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where the services are; addresses may hold "{region}".

    Attributes:
        catalog: Lists models.
        registry: Knows where their files are.
        detection: Names our region in its answers; "" if there is no such service.
    """

    catalog: str
    registry: str
    detection: str


def endpoints_of(settings: FoundryCatalogSettings) -> Endpoints:
    """Take what is set, and Azure's for the rest. Nobody but Azure's own catalog is asked for the region."""
    own = _INDEX if settings.protocol == "v1" else _GALLERY
    is_azure = not (settings.catalog_url or settings.registry_url)
    return Endpoints(
        catalog=(settings.catalog_url or own).rstrip("/"),
        registry=settings.registry_url or _REGISTRY,
        detection=_GALLERY if is_azure else "",
    )


@dataclass(frozen=True, slots=True)
class Listing:
    """What a catalog lists. `is_whole` unless it refused to answer for one of the devices."""

    models: Sequence[ModelInfo]
    is_whole: bool


class FoundryService:
    """Talks to one catalog. Remembers the region that its answers come from.

    Attributes:
        region: "" until it is known.
    """

    def __init__(
        self,
        settings: FoundryCatalogSettings,
        endpoints: Endpoints,
        *,
        source: str,
        patience: Patience,
        region: str = "",
    ) -> None:
        self.region = settings.region or region
        self._settings = settings
        self._endpoints = endpoints
        self._source = source
        self._patience = patience
        self._protocol = EntitiesIndex(settings) if settings.protocol == "v1" else AssetGallery(settings)

    async def listing(self, queries: Sequence[Query]) -> Listing:
        """List the models for every query; of two with one id the first counts.

        Raises:
            UnreachableError: Nobody answered.
            RefusedError: The catalog refused to answer every query.
        """
        found: dict[str, ModelInfo] = {}
        refusals: list[RefusedError] = []
        async with open_client(self._patience) as client:
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
        """List the files of a model, with addresses that are signed for some hours.

        Raises:
            UnreachableError, RefusedError, ValueError: The sentence is for the user.
        """
        async with open_client(self._patience) as client:
            await self._detect_region(client, self._endpoints.registry)
            registries = self._addresses(self._endpoints.registry)
            files = await list_container(client, await locate(client, registries, model.uri))
        if not files:
            raise ValueError("its container is empty")
        return files

    async def _records(self, client: Client, query: Query) -> Sequence[Raw]:
        """Return every record of a query. A region that fails in mid-listing is left: its cursors hold nowhere else."""
        causes = []
        for address in self._addresses(self._endpoints.catalog):
            try:
                return await self._pages(client, address + self._protocol.path, query)
            except UnreachableError as error:
                logger.info("%s", error)
                causes.append(str(error))
        more = f" ({len(causes) - 1} other regions failed as well)" if len(causes) > 1 else ""
        raise UnreachableError(causes[0] + more)

    async def _pages(self, client: Client, address: str, query: Query) -> Sequence[Raw]:
        records: list[Raw] = []
        cursors = {Cursor()}
        cursor = Cursor()
        while len(cursors) <= _MOST_PAGES:
            headers = {**self._protocol.headers, "Content-Type": "application/json"}
            request = Request("POST", [address], headers, self._protocol.body(query, cursor))
            page = await client.ask(request, self._page)
            records += page.records
            if page.next is None:
                return records
            if page.next in cursors:
                break
            cursor = page.next
            cursors.add(cursor)
        raise RefusedError("its listing goes in circles", 0)

    def _page(self, body: bytes, headers: httpx.Headers) -> Page:
        self._note_region(headers)
        return self._protocol.page(body)

    def _read(self, records: Sequence[Raw]) -> list[ModelInfo]:
        """Map every record that can be; the others are logged and cost nothing else."""
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
        """Find our region if an address needs it. Who cannot be asked leaves the default."""
        if self.region or PLACEHOLDER not in template:
            return
        if self._endpoints.detection:
            headers = {**AssetGallery.headers, "Content-Type": "application/json"}
            request = Request("POST", [self._endpoints.detection], headers, b'{"filters":[],"pageSize":1}')
            try:
                await client.ask(request, lambda _, headers: self._note_region(headers))
            except (UnreachableError, RefusedError) as error:
                logger.info("The region stays %s: %s", DEFAULT_REGION, error)

    def _note_region(self, headers: httpx.Headers) -> None:
        if not self._settings.region:
            self.region = region_of_cluster(headers.get(_CLUSTER_HEADER, "")) or self.region


def region_of_cluster(header: str) -> str:
    """Return "eastus" for the header `azureml-served-by-cluster: vienna-eastus-01`, "" if it says something else."""
    match = _CLUSTER.search(header)
    return match[1].lower() if match else ""


def regions_to_try(region: str) -> list[str]:
    """Return the region, its neighbours, then one of every other part of the world."""
    row = next((row for row in _NEIGHBOURS if region in row), ())
    neighbours = [other for other in row if other != region][:_MOST_NEIGHBOURS]
    return list(dict.fromkeys([region, *neighbours, *_FARTHER]))


def addresses(template: str, region: str, *, fallback: bool) -> list[str]:
    """Fill an address in, for every region worth trying; an address without a place for regions is the only one."""
    if PLACEHOLDER not in template:
        return [template]
    regions = regions_to_try(region or DEFAULT_REGION)
    return [template.replace(PLACEHOLDER, each) for each in (regions if fallback else regions[:1])]

"""The two protocols of the AzureML catalog: request bodies, and the records and next page of a response.

Version 2 is the asset gallery, version 1 the entities index that it replaced. The requests are
those that Foundry Local 2.2 and 1.2 were observed to send.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

import msgspec
from msgspec import Raw, Struct

from cupola.catalog import DeviceType
from cupola.settings import FoundryCatalogSettings

PAGE_SIZE = 50
USER_AGENT = "AzureAiStudio"  # any other value gets status 400

Json = dict[str, object]


class Query(Struct, frozen=True):
    """A listing request: models for one device type and one execution provider."""

    device: DeviceType
    provider: str

    def __str__(self) -> str:
        return f"{self.device}:{self.provider}"


class Cursor(Struct, frozen=True, omit_defaults=True):
    """The position of a page. The first page has the default values."""

    skip: int = 0
    token: str = ""


class Page(Struct, frozen=True):
    """One page of a listing: undecoded records, and the cursor of the next page, None after the last."""

    records: Sequence[Raw]
    next: Cursor | None


class Protocol(ABC):
    """Encodes requests and decodes responses."""

    path: ClassVar[str] = ""
    headers: ClassVar[Mapping[str, str]]

    def __init__(self, settings: FoundryCatalogSettings) -> None:
        self._settings = settings

    @abstractmethod
    def body(self, query: Query, cursor: Cursor) -> bytes:
        """Encode the request for one page."""

    @abstractmethod
    def page(self, body: bytes) -> Page:
        """Decode a response.

        Raises:
            ValueError: It is not a valid page.
        """


class _GalleryResponse(Struct, rename="camel"):
    value: list[Raw] | None = None
    summaries: list[Raw] | None = None
    continuation_token: str | None = None


class AssetGallery(Protocol):
    """Version 2: `POST .../asset-gallery/v1.0/models`."""

    headers: ClassVar[Mapping[str, str]] = {"User-Agent": USER_AGENT, "x-ms-use-full-service-contracts": "true"}

    def body(self, query: Query, cursor: Cursor) -> bytes:
        """Encode the request for one page. This protocol has no `skip`."""
        filters = [
            _filter("type", "models"),
            _filter("kind", "Versioned"),
            _filter("annotations/systemCatalogData/deploymentOptions", *self._settings.deployment_options),
            {"field": "annotations/archived", "operator": "NotEquals", "values": ["true"]},
            _filter("labels", "latest"),
            *_variant(query),
        ]
        request: Json = {"filters": filters, "pageSize": PAGE_SIZE}
        if cursor.token:
            request["continuationToken"] = cursor.token
        return msgspec.json.encode(request)

    def page(self, body: bytes) -> Page:
        """Decode a response with records in `value` or in `summaries`."""
        response = msgspec.json.decode(body, type=_GalleryResponse)
        records = response.value if response.value is not None else response.summaries
        if records is None:
            raise ValueError("the response contains no records")
        return Page(records, Cursor(token=response.continuation_token) if response.continuation_token else None)


class _IndexPage(Struct, rename="camel"):
    value: list[Raw]
    next_skip: int | None = None
    continuation_token: str | None = None


class _IndexResponse(Struct, rename="camel"):
    index_entities_response: _IndexPage


class EntitiesIndex(Protocol):
    """Version 1: `POST .../ux/v1.0/entities/crossRegion`."""

    path = "/entities/crossRegion"
    headers: ClassVar[Mapping[str, str]] = {"User-Agent": USER_AGENT}

    def body(self, query: Query, cursor: Cursor) -> bytes:
        """Encode the request for one page."""
        filters = [
            _filter("type", "models"),
            _filter("kind", "Versioned"),
            _filter("labels", "latest"),
            _filter("annotations/tags/foundryLocal", *self._settings.tags),
            *_variant(query),
        ]
        request: Json = {"filters": filters, "pageSize": PAGE_SIZE}
        if cursor.skip:
            request["skip"] = cursor.skip
        if cursor.token:
            request["continuationToken"] = cursor.token
        resources = [{"resourceId": "azureml", "entityContainerType": "Registry"}]
        return msgspec.json.encode({"resourceIds": resources, "indexEntitiesRequest": request})

    def page(self, body: bytes) -> Page:
        """Decode a response. An empty page is the last one, even if it has a cursor."""
        page = msgspec.json.decode(body, type=_IndexResponse).index_entities_response
        cursor = Cursor(skip=max(0, page.next_skip or 0), token=page.continuation_token or "")
        return Page(page.value, cursor if page.value and cursor != Cursor() else None)


def _filter(field: str, *values: str) -> Json:
    return {"field": field, "operator": "eq", "values": list(values)}


def _variant(query: Query) -> tuple[Json, Json]:
    of_variant = "properties/variantInfo/variantMetadata"
    return (
        _filter(f"{of_variant}/device", query.device.lower()),
        _filter(f"{of_variant}/executionProvider", query.provider),
    )

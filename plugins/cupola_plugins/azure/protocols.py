"""The two protocols of the catalog: what is asked, and where an answer holds its records and the way to the next page.

Version 2 is the asset gallery, version 1 the entities index that it replaced. Shapes as Foundry Local 2.2 and 1.2 send
them.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

import msgspec
from msgspec import Raw, Struct

from cupola.catalog import DeviceType
from cupola.settings import FoundryCatalogSettings

PAGE_SIZE = 50
USER_AGENT = "AzureAiStudio"  # any other is answered 400

Json = dict[str, object]


class Query(Struct, frozen=True):
    """What one listing is for: models for one kind of device through one execution provider."""

    device: DeviceType
    provider: str

    def __str__(self) -> str:
        return f"{self.device}:{self.provider}"


class Cursor(Struct, frozen=True, omit_defaults=True):
    """Where the next page starts; the first page has none of it."""

    skip: int = 0
    token: str = ""


class Page(Struct, frozen=True):
    """One answer: records still to be read one by one, and where the next one starts, None after the last."""

    records: Sequence[Raw]
    next: Cursor | None


class Protocol(ABC):
    """How to ask, and how to read the answer."""

    path: ClassVar[str] = ""
    headers: ClassVar[Mapping[str, str]]

    def __init__(self, settings: FoundryCatalogSettings) -> None:
        self._settings = settings

    @abstractmethod
    def body(self, query: Query, cursor: Cursor) -> bytes:
        """Write the request for one page."""

    @abstractmethod
    def page(self, body: bytes) -> Page:
        """Read an answer.

        Raises:
            ValueError: It is none.
        """


class _GalleryAnswer(Struct, rename="camel"):
    value: list[Raw] | None = None
    summaries: list[Raw] | None = None
    continuation_token: str | None = None


class AssetGallery(Protocol):
    """Version 2: `POST .../asset-gallery/v1.0/models`."""

    headers: ClassVar[Mapping[str, str]] = {"User-Agent": USER_AGENT, "x-ms-use-full-service-contracts": "true"}

    def body(self, query: Query, cursor: Cursor) -> bytes:
        """Write the request for one page; `skip` is not a word of this protocol."""
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
        """Read an answer in either of its forms."""
        answer = msgspec.json.decode(body, type=_GalleryAnswer)
        records = answer.value if answer.value is not None else answer.summaries
        if records is None:
            raise ValueError("the answer lists nothing")
        return Page(records, Cursor(token=answer.continuation_token) if answer.continuation_token else None)


class _IndexPage(Struct, rename="camel"):
    value: list[Raw]
    next_skip: int | None = None
    continuation_token: str | None = None


class _IndexAnswer(Struct, rename="camel"):
    index_entities_response: _IndexPage


class EntitiesIndex(Protocol):
    """Version 1: `POST .../ux/v1.0/entities/crossRegion`."""

    path = "/entities/crossRegion"
    headers: ClassVar[Mapping[str, str]] = {"User-Agent": USER_AGENT}

    def body(self, query: Query, cursor: Cursor) -> bytes:
        """Write the request for one page."""
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
        """Read an answer; an empty page is the last one, whatever it says of a next."""
        page = msgspec.json.decode(body, type=_IndexAnswer).index_entities_response
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

"""The catalog source for Azure AI Foundry and private catalogs."""

import logging
from collections.abc import Sequence
from pathlib import Path
from time import monotonic, time
from typing import TYPE_CHECKING, ClassVar

import anyio
from anyio import to_thread

from cupola.catalog import CatalogSource, Device, ModelInfo, RemoteFile
from cupola.errors import CatalogError, DownloadError
from cupola.settings import FoundryCatalogSettings
from cupola_plugins.azure.protocols import Query
from cupola_plugins.azure.records import DEVICES
from cupola_plugins.azure.snapshot import Origin, Snapshot, read_snapshot, write_snapshot

if TYPE_CHECKING:
    from cupola_plugins.azure.service import Endpoints, FoundryService

logger = logging.getLogger(__name__)

_EVERY_MACHINE = (Query("CPU", "CPUExecutionProvider"),)
_PAUSE_AFTER_FAILURE_S = 60.0
_REQUEST_TIMEOUTS_WITH_SNAPSHOT = 4  # the limit of a listing, in timeouts of one request


class AzureFoundryCatalog(CatalogSource):
    """The models of Azure AI Foundry, or of a catalog that speaks its protocol, for the devices of this machine.

    A listing is kept in memory and in a file of the cache folder, and requested again after `refresh_s`. If that fails,
    the kept listing is used, whatever its age, and the next attempt is made after a minute.

    Args:
        settings: The catalog and its protocol.
        snapshot: The file that keeps the listing.
        name: The name of the source.
        endpoints: The URLs; those of the settings by default.
        first_pause_s: The wait before the first retry of a failed request.
    """

    name: ClassVar[str] = "azure"

    def __init__(
        self,
        settings: FoundryCatalogSettings,
        snapshot: Path,
        *,
        name: str = "azure",
        endpoints: "Endpoints | None" = None,
        first_pause_s: float = 0.5,
    ) -> None:
        self.name = name  # type: ignore[misc] # one class for all configured catalogs
        self._settings = settings
        self._path = snapshot
        self._endpoints = endpoints
        self._first_pause_s = first_pause_s
        self._queries = tuple(map(_query, settings.devices)) or _EVERY_MACHINE
        self._known: Snapshot | None = None
        self._lock = anyio.Lock()
        self._failed_at = -_PAUSE_AFTER_FAILURE_S
        self._failure = ""

    @property
    def listed_at_unix(self) -> float | None:  # type: ignore[override] # a network source knows the time
        """The time of the listing that `models` returns; None before the first."""
        return self._known.saved_unix if self._known else None

    def use_devices(self, devices: Sequence[Device]) -> None:
        """List models for these devices, unless the settings name devices."""
        if devices and not self._settings.devices:
            self._queries = tuple(dict.fromkeys(Query(device.type, device.provider) for device in devices))

    async def models(self) -> Sequence[ModelInfo]:
        """List the models. Uses the network only if the kept listing is too old.

        Raises:
            CatalogError: There is no kept listing, and the catalog did not respond.
        """
        if not self._is_fresh(self._known):
            async with self._lock:
                await self._renew()
        if self._known is None:
            raise CatalogError(source=self.name, detail=self._failure)
        return self._known.models

    async def files(self, model: ModelInfo) -> Sequence[RemoteFile]:
        """List the files of a model. Always asks the registry, because signed URLs expire.

        Raises:
            DownloadError: The registry did not respond or refused the request.
        """
        from cupola_plugins.azure.client import RefusedError, UnreachableError  # noqa: PLC0415 - see `_service`

        try:
            if not model.uri:
                raise ValueError("the catalog has no files for it")
            return await self._service(offline=True).files(model)
        except (UnreachableError, RefusedError, ValueError) as error:
            raise DownloadError(model=model.id, detail=str(error)) from error

    async def _renew(self) -> None:
        """Load the listing from the file if it is newer, and from the network if it is too old."""
        if self._is_fresh(self._known):
            return  # another task renewed it meanwhile
        found = await to_thread.run_sync(lambda: read_snapshot(self._path, source=self.name))
        if found and self._is_ours(found) and (not self._known or found.saved_unix > self._known.saved_unix):
            self._known = found
        if self._is_fresh(self._known) or monotonic() < self._failed_at + _PAUSE_AFTER_FAILURE_S:
            return
        try:
            await self._request_listing()
        except CatalogError as error:
            self._failed_at, self._failure = monotonic(), error.detail
            if self._known:
                hours = (time() - self._known.saved_unix) / 3600
                logger.warning("%s Using the listing from %.1f hours ago.", error, hours)

    async def _request_listing(self) -> None:
        """Request the listing from the catalog.

        Raises:
            CatalogError: The catalog did not respond.
        """
        from cupola_plugins.azure.client import RefusedError, UnreachableError  # noqa: PLC0415 - see `_service`

        service = self._service(offline=self._known is None)
        limit_s = self._settings.timeout_s * _REQUEST_TIMEOUTS_WITH_SNAPSHOT if self._known else None
        try:
            with anyio.fail_after(limit_s):
                listing = await service.listing(self._queries)
        except (UnreachableError, RefusedError) as error:
            raise CatalogError(source=self.name, detail=str(error)) from error
        except TimeoutError:
            raise CatalogError(source=self.name, detail=f"no response within {limit_s:g} s") from None
        self._known = Snapshot(listing.models, time(), self._origin(), service.region)
        if listing.is_complete:
            await self._save(self._known)

    async def _save(self, snapshot: Snapshot) -> None:
        try:
            await to_thread.run_sync(write_snapshot, self._path, snapshot)
        except OSError as error:
            logger.info("The listing of %s cannot be saved in %s: %s", self.name, self._path, error)

    def _service(self, *, offline: bool) -> "FoundryService":
        # Imports that take half a second, which a listing from the snapshot does not need.
        from cupola_plugins.azure.client import RetryPolicy  # noqa: PLC0415
        from cupola_plugins.azure.service import FoundryService, endpoints_of  # noqa: PLC0415

        retry_policy = RetryPolicy(
            first_pause_s=self._first_pause_s, timeout_s=self._settings.timeout_s, offline=offline
        )
        return FoundryService(
            self._settings,
            self._endpoints or endpoints_of(self._settings),
            source=self.name,
            retry_policy=retry_policy,
            region=self._known.region if self._known else "",
        )

    def _is_fresh(self, snapshot: Snapshot | None) -> bool:
        """Tell whether a listing can replace a request: it is recent, from this catalog, and for these devices."""
        if snapshot is None or snapshot.origin != self._origin():
            return False
        return 0 <= time() - snapshot.saved_unix < self._settings.refresh_s

    def _is_ours(self, snapshot: Snapshot) -> bool:
        """Tell whether a listing is from this catalog. One that Foundry Local wrote to the shared file is."""
        return snapshot.origin is None or snapshot.origin.catalog == self._origin().catalog

    def _origin(self) -> Origin:
        settings = self._settings
        filters = settings.tags if settings.protocol == "v1" else settings.deployment_options
        return Origin(settings.catalog_url or settings.protocol, tuple(map(str, self._queries)), filters)


def _query(text: str) -> Query:
    device, _, provider = text.partition(":")
    return Query(DEVICES[device], provider)

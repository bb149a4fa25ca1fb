"""The catalog source."""

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
_PATIENCE_WITH_SNAPSHOT = 4  # times the limit of one request


class AzureFoundryCatalog(CatalogSource):
    """The models of Azure AI Foundry, or of a catalog that speaks its protocol, for the devices of this machine.

    A listing is remembered, in memory and in a file of the cache folder, and asked for anew when it is
    `refresh_s` old. When that fails the remembered one answers, whatever its age, and nobody waits for another try
    for a minute.

    Args:
        settings: Which catalog, and how to ask it.
        snapshot: The file that remembers the listing.
        name: The source's name.
        endpoints: Where to ask, if not as the settings say.
        first_pause_s: Wait before the first repetition of a failed request.
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
        self.name = name  # type: ignore[misc] # one class for as many catalogs as are set up
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
    def listed_at_unix(self) -> float | None:  # type: ignore[override] # who lists by network knows when
        """When the catalog gave the listing that `models` returns; None before the first."""
        return self._known.saved_unix if self._known else None

    def use_devices(self, devices: Sequence[Device]) -> None:
        """List for these, unless the settings say for which."""
        if devices and not self._settings.devices:
            self._queries = tuple(dict.fromkeys(Query(device.type, device.provider) for device in devices))

    async def models(self) -> Sequence[ModelInfo]:
        """List the models; asks the network only if what is remembered is too old.

        Raises:
            CatalogError: Nothing is remembered, and the catalog gave no answer.
        """
        if not self._is_fresh(self._known):
            async with self._lock:
                await self._renew()
        if self._known is None:
            raise CatalogError(source=self.name, detail=self._failure)
        return self._known.models

    async def files(self, model: ModelInfo) -> Sequence[RemoteFile]:
        """Ask the registry where the files are, always anew: the addresses expire."""
        from cupola_plugins.azure.client import RefusedError, UnreachableError  # noqa: PLC0415 - see `_service`

        try:
            if not model.uri:
                raise ValueError("the catalog names no files for it")
            return await self._service(offline=True).files(model)
        except (UnreachableError, RefusedError, ValueError) as error:
            raise DownloadError(model=model.id, detail=str(error)) from error

    async def _renew(self) -> None:
        """Take the file's listing if it is newer than ours, and the network's if that one is too old."""
        if self._is_fresh(self._known):
            return  # while we waited for the lock
        found = await to_thread.run_sync(lambda: read_snapshot(self._path, source=self.name))
        if found and self._is_ours(found) and (not self._known or found.saved_unix > self._known.saved_unix):
            self._known = found
        if self._is_fresh(self._known) or monotonic() < self._failed_at + _PAUSE_AFTER_FAILURE_S:
            return
        try:
            await self._ask()
        except CatalogError as error:
            self._failed_at, self._failure = monotonic(), error.detail
            if self._known:
                hours = (time() - self._known.saved_unix) / 3600
                logger.warning("%s Taking the listing of %.1f hours ago.", error, hours)

    async def _ask(self) -> None:
        """Ask the catalog.

        Raises:
            CatalogError: It gave no answer.
        """
        from cupola_plugins.azure.client import RefusedError, UnreachableError  # noqa: PLC0415 - see `_service`

        service = self._service(offline=self._known is None)
        limit_s = self._settings.timeout_s * _PATIENCE_WITH_SNAPSHOT if self._known else None
        try:
            with anyio.fail_after(limit_s):
                listing = await service.listing(self._queries)
        except (UnreachableError, RefusedError) as error:
            raise CatalogError(source=self.name, detail=str(error)) from error
        except TimeoutError:
            raise CatalogError(source=self.name, detail=f"no answer within {limit_s:g} s") from None
        self._known = Snapshot(listing.models, time(), self._origin(), service.region)
        if listing.is_whole:
            await self._save(self._known)

    async def _save(self, snapshot: Snapshot) -> None:
        try:
            await to_thread.run_sync(write_snapshot, self._path, snapshot)
        except OSError as error:
            logger.info("The listing of %s cannot be remembered in %s: %s", self.name, self._path, error)

    def _service(self, *, offline: bool) -> "FoundryService":
        # Half of a second's import that a listing from the snapshot does without.
        from cupola_plugins.azure.client import Patience  # noqa: PLC0415
        from cupola_plugins.azure.service import FoundryService, endpoints_of  # noqa: PLC0415

        patience = Patience(first_pause_s=self._first_pause_s, timeout_s=self._settings.timeout_s, offline=offline)
        return FoundryService(
            self._settings,
            self._endpoints or endpoints_of(self._settings),
            source=self.name,
            patience=patience,
            region=self._known.region if self._known else "",
        )

    def _is_fresh(self, snapshot: Snapshot | None) -> bool:
        """Tell whether a listing can stand in for asking: recent, from this catalog, for these devices."""
        if snapshot is None or snapshot.origin != self._origin():
            return False
        return 0 <= time() - snapshot.saved_unix < self._settings.refresh_s

    def _is_ours(self, snapshot: Snapshot) -> bool:
        """Tell whether a listing is from this catalog; what Foundry Local wrote is, in the file that we share."""
        return snapshot.origin is None or snapshot.origin.catalog == self._origin().catalog

    def _origin(self) -> Origin:
        settings = self._settings
        filters = settings.tags if settings.protocol == "v1" else settings.deployment_options
        return Origin(settings.catalog_url or settings.protocol, tuple(map(str, self._queries)), filters)


def _query(text: str) -> Query:
    device, _, provider = text.partition(":")
    return Query(DEVICES[device], provider)

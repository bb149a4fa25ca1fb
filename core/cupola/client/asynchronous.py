"""The asynchronous client, for asyncio and trio."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar

import httpx
from anyio import to_thread

from cupola.client import api, operations
from cupola.client.api import Call, Download, LoadedModel
from cupola.client.connection import AsyncConnection, ServiceHandle, import_openai, read_api_key
from cupola.client.operations import Operation
from cupola.contracts import DeviceType, ModelInfo
from cupola.discovery import ServiceInfo, is_alive
from cupola.errors import ServiceUnreachableError
from cupola.settings import Settings

if TYPE_CHECKING:
    import openai

T = TypeVar("T")


class AsyncClient:
    """An asynchronous client of the background service. Its methods, arguments and errors are those of `Client`.

    Use it as an async context manager, or call `close` before the event loop ends. Several tasks may share one client.
    Cancelling a method cancels its request; a download is cancelled too, unless another client waits for it.

    Args:
        settings: The settings; None reads them as the service does.
        overrides: "section.key=value" strings that take precedence over the settings file, also for a new service.
        config: The settings file, if it is not the default one.
        start: Whether to start a service that does not run.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        overrides: Sequence[str] = (),
        config: Path | None = None,
        start: bool = True,
    ) -> None:
        self._service = ServiceHandle(settings, overrides, config, start=start)
        self._info: ServiceInfo | None = None
        self._connection: AsyncConnection | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection. The service keeps running. The next request opens a new connection."""
        connection, self._connection, self._info = self._connection, None, None
        if connection:
            await connection.close()

    async def is_service_running(self) -> bool:
        """Return whether the service runs, without starting it."""
        return await to_thread.run_sync(self._service.find) is not None

    async def start_service(self) -> ServiceInfo:
        """Start the service unless it runs; see `Client.start_service`."""
        self._info = await to_thread.run_sync(self._service.ensure)
        return self._info

    async def stop_service(self) -> bool:
        """Stop the service; see `Client.stop_service`."""
        await self.close()
        return await to_thread.run_sync(self._service.stop)

    async def service_uri(self) -> str:
        """Return the base URL of the service, "http://127.0.0.1:43121"."""
        return (await self._require_service()).url

    async def endpoint(self) -> str:
        """Return the base URL for clients of OpenAI's API, "http://127.0.0.1:43121/v1"."""
        return f"{await self.service_uri()}/v1"

    @property
    def api_key(self) -> str:
        """An API key for clients of OpenAI's API. If the service requires none, it is a placeholder."""
        return read_api_key(self._service.settings.server)

    async def openai_client(self) -> "openai.AsyncOpenAI":
        """Return an asynchronous client of the official `openai` package that is configured for the service.

        Raises:
            ServiceError: The package is not installed.
        """
        kind: type[openai.AsyncOpenAI] = import_openai().AsyncOpenAI
        return kind(base_url=await self.endpoint(), api_key=self.api_key)

    async def list_catalog_models(self) -> list[ModelInfo]:
        """List the models of all catalogs and the cache, best variant of an alias first."""
        return await self._run(operations.list_catalog_models())

    async def list_cached_models(self) -> list[ModelInfo]:
        """List the models in the cache."""
        return await self._run(operations.list_cached_models())

    async def list_loaded_models(self) -> list[LoadedModel]:
        """List the loaded models, most recently used first. Does not start the service; the list is then empty."""
        return await self._run(operations.list_loaded_models()) if await self.is_service_running() else []

    async def get_model_info(
        self, alias_or_model_id: str, device: DeviceType | None = None, *, raise_on_not_found: bool = False
    ) -> ModelInfo | None:
        """Return the model with a name; see `Client.get_model_info`."""
        operation = operations.get_model_info(alias_or_model_id, device, raise_on_not_found=raise_on_not_found)
        return await self._run(operation)

    async def get_cache_location(self) -> Path:
        """Return the cache folder."""
        return Path((await self._require_service()).cache_dir)

    async def download_model(
        self,
        alias_or_model_id: str,
        device: DeviceType | None = None,
        *,
        progress: Callable[[Download], object] | None = None,
    ) -> ModelInfo:
        """Download a model into the cache; see `Client.download_model`."""
        info = await self._run(operations.resolve(alias_or_model_id, device))
        async with (await self._connect()).stream(api.download(info.id)) as events:
            async for event in events:
                if progress:
                    progress(event)
        return info

    async def is_model_upgradeable(self, alias_or_model_id: str, device: DeviceType | None = None) -> bool:
        """Return whether the latest version of a model is missing from the cache."""
        return await self._run(operations.is_upgradeable(alias_or_model_id, device))

    async def upgrade_model(
        self,
        alias_or_model_id: str,
        device: DeviceType | None = None,
        *,
        progress: Callable[[Download], object] | None = None,
    ) -> ModelInfo:
        """Download the latest version of a model into the cache; see `Client.upgrade_model`."""
        model = await self._run(operations.find_latest(alias_or_model_id, device))
        return await self.download_model(model.info.id, progress=progress)

    async def load_model(
        self,
        alias_or_model_id: str,
        device: DeviceType | None = None,
        ttl: float | None = None,
        *,
        provider: str | None = None,
    ) -> LoadedModel:
        """Load a model, or restart its idle timeout; see `Client.load_model`."""
        return await self._run(operations.load(alias_or_model_id, device, ttl, provider))

    async def unload_model(self, alias_or_model_id: str, device: DeviceType | None = None, force: bool = False) -> bool:
        """Unload a model after its running requests have ended; see `Client.unload_model`."""
        return await self._run(operations.unload(alias_or_model_id, device, force=force))

    async def _run(self, operation: Operation[T]) -> T:
        try:
            call = next(operation)
            while True:
                call = operation.send(await self._request(call))
        except StopIteration as end:
            result: T = end.value
            return result

    async def _request(self, call: Call[T]) -> T:
        """Send a call. If the connection is refused, find or start the service and send it again."""
        try:
            return await (await self._connect()).request(call)
        except ServiceUnreachableError as error:
            if not isinstance(error.__cause__, httpx.ConnectError):
                raise
        await self.close()
        return await (await self._connect()).request(call)

    async def _require_service(self) -> ServiceInfo:
        if self._info and not is_alive(self._info.pid, self._info.born):
            await self.close()
        if self._info is None:
            self._info = await to_thread.run_sync(self._service.require)
        return self._info

    async def _connect(self) -> AsyncConnection:
        info = await self._require_service()
        if self._connection is None:
            self._connection = AsyncConnection(info, self._service.settings)
        return self._connection

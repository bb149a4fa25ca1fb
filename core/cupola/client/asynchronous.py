"""The client that awaits."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar

import anyio
import httpx

from cupola.client import api, operations
from cupola.client.api import Call, Download, LoadedModel
from cupola.client.connection import Reach, openai_package, unreachable
from cupola.client.operations import Operation
from cupola.contracts import DeviceType, ModelInfo
from cupola.discovery import ServiceInfo, is_alive
from cupola.settings import Settings

if TYPE_CHECKING:
    import openai

T = TypeVar("T")


class AsyncClient:
    """The same as `Client`, with `await`, for one task at a time or many. Leave it before the event loop ends.

    Args:
        settings: What is set; None reads the settings as the service does.
        overrides: "section.key=value" strings that win over the settings file; a new service is given them too.
        config: Settings file to read instead.
        start: Whether to start a service that does not run.

    Cancelling a method takes its request back; a download that nobody else waits for ends.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        overrides: Sequence[str] = (),
        config: Path | None = None,
        start: bool = True,
    ) -> None:
        self._reach = Reach(settings, overrides, config, start=start)
        self._info: ServiceInfo | None = None
        self._http: httpx.AsyncClient | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections. The service runs on, and the client can be used again."""
        http, self._http, self._info = self._http, None, None
        if http:
            await http.aclose()

    async def is_service_running(self) -> bool:
        """Whether the service runs. Starts nothing."""
        return await anyio.to_thread.run_sync(self._reach.find) is not None

    async def start_service(self) -> ServiceInfo:
        """Find the service, or start it; returns when it is ready."""
        self._info = await anyio.to_thread.run_sync(self._reach.ensure)
        return self._info

    async def stop_service(self) -> bool:
        """Stop the service; False if it did not run. Its running answers may end first."""
        await self.close()
        return await anyio.to_thread.run_sync(self._reach.stop)

    async def service_uri(self) -> str:
        """Return the base URL of the service, "http://127.0.0.1:43121"."""
        return (await self._service()).url

    async def endpoint(self) -> str:
        """Return the base URL for clients of OpenAI's API."""
        return f"{await self.service_uri()}/v1"

    @property
    def api_key(self) -> str:
        """A key for clients of OpenAI's API; any will do unless keys are set."""
        return self._reach.key()

    async def openai_client(self) -> "openai.AsyncOpenAI":
        """Return an asynchronous client of the official `openai` package that talks to the service."""
        kind: type[openai.AsyncOpenAI] = openai_package().AsyncOpenAI
        return kind(base_url=await self.endpoint(), api_key=self.api_key)

    async def list_catalog_models(self) -> list[ModelInfo]:
        """List every model there is, best variant of an alias first."""
        return await self._run(operations.catalog_models())

    async def list_cached_models(self) -> list[ModelInfo]:
        """List the models on this machine."""
        return await self._run(operations.cached_models())

    async def list_loaded_models(self) -> list[LoadedModel]:
        """List what is loaded, most recently used first. Starts nothing: without a service that is nothing."""
        return await self._run(operations.loaded_models()) if await self.is_service_running() else []

    async def get_model_info(
        self, alias_or_model_id: str, device: DeviceType | None = None, *, raise_on_not_found: bool = False
    ) -> ModelInfo | None:
        """Look a model up, as `Client.get_model_info`."""
        return await self._run(operations.model_info(alias_or_model_id, device, raise_on_not_found=raise_on_not_found))

    async def get_cache_location(self) -> Path:
        """Return the folder of the models on this machine."""
        return Path((await self._service()).cache_dir)

    async def download_model(
        self,
        alias_or_model_id: str,
        device: DeviceType | None = None,
        *,
        progress: Callable[[Download], object] | None = None,
    ) -> ModelInfo:
        """Bring a model to this machine, as `Client.download_model`."""
        info = await self._run(operations.find(alias_or_model_id, device))
        await self._follow(api.download(info.id), progress)
        return info

    async def is_model_upgradeable(self, alias_or_model_id: str, device: DeviceType | None = None) -> bool:
        """Whether the latest version of a model is not on this machine."""
        return await self._run(operations.is_upgradeable(alias_or_model_id, device))

    async def upgrade_model(
        self,
        alias_or_model_id: str,
        device: DeviceType | None = None,
        *,
        progress: Callable[[Download], object] | None = None,
    ) -> ModelInfo:
        """Bring the latest version of a model to this machine."""
        model = await self._run(operations.latest(alias_or_model_id, device))
        return await self.download_model(model.info.id, progress=progress)

    async def load_model(
        self,
        alias_or_model_id: str,
        device: DeviceType | None = None,
        ttl: float | None = None,
        *,
        provider: str | None = None,
    ) -> LoadedModel:
        """Load a model, as `Client.load_model`."""
        return await self._run(operations.load(alias_or_model_id, device, ttl, provider))

    async def unload_model(self, alias_or_model_id: str, device: DeviceType | None = None, force: bool = False) -> bool:
        """Unload a model, as `Client.unload_model`."""
        return await self._run(operations.unload(alias_or_model_id, device, force=force))

    async def _run(self, operation: Operation[T]) -> T:
        try:
            call = next(operation)
            while True:
                call = operation.send(await self._do(call))
        except StopIteration as end:
            result: T = end.value
            return result

    async def _do(self, call: Call[T]) -> T:
        """Ask, and once more if the service that was known is gone: nothing can have reached it."""
        try:
            return await self._ask(call)
        except httpx.ConnectError:
            await self.close()
        try:
            return await self._ask(call)
        except httpx.ConnectError as error:
            raise unreachable(self._info, error) from error

    async def _ask(self, call: Call[T]) -> T:
        http = await self._connection()
        try:
            response = await http.request(call.method, call.path, content=call.content)
        except httpx.ConnectError:
            raise
        except httpx.HTTPError as error:
            raise unreachable(self._info, error) from error
        return call.read(response.status_code, response.content)

    async def _follow(self, call: Call[Download], progress: Callable[[Download], object] | None) -> None:
        http = await self._connection()
        try:
            async with http.stream(call.method, call.path, content=call.content) as response:
                if response.is_error:
                    call.read(response.status_code, await response.aread())
                async for line in response.aiter_lines():
                    if (event := call.read_event(line)) and progress:
                        progress(event)
        except httpx.HTTPError as error:
            raise unreachable(self._info, error) from error

    async def _service(self) -> ServiceInfo:
        if self._info and not is_alive(self._info.pid, self._info.born):
            await self.close()
        if self._info is None:
            self._info = await anyio.to_thread.run_sync(self._reach.wanted)
        return self._info

    async def _connection(self) -> httpx.AsyncClient:
        info = await self._service()
        if self._http is None:
            transport = httpx.AsyncHTTPTransport(uds=info.socket or None)
            self._http = httpx.AsyncClient(transport=transport, **self._reach.options(info))
        return self._http

"""The blocking client."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar

import httpx

from cupola.client import api, operations
from cupola.client.api import Call, Download, LoadedModel
from cupola.client.connection import Connection, ServiceHandle, import_openai, read_api_key
from cupola.client.operations import Operation
from cupola.contracts import DeviceType, ModelInfo
from cupola.discovery import ServiceInfo, is_alive
from cupola.errors import ServiceUnreachableError
from cupola.settings import Settings

if TYPE_CHECKING:
    import openai

T = TypeVar("T")


class Client:
    """A client of the background service of this user. The first request starts the service if it does not run.

    Use it as a context manager, or call `close`. The methods block, without a timeout for requests: loading or
    downloading a model may take minutes.

    Args:
        settings: The settings; None reads them as the service does.
        overrides: "section.key=value" strings that take precedence over the settings file, also for a new service.
        config: The settings file, if it is not the default one.
        start: Whether to start a service that does not run.

    Every method that sends a request may raise `ServiceStartError` if the service does not start,
    `ServiceUnreachableError` if it does not answer, `ServiceReplyError` with the service's own message if it refuses
    the request, and `ServiceError` if it does not run and `start` is false.
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
        self._connection: Connection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection. The service keeps running. The next request opens a new connection."""
        if self._connection:
            self._connection.close()
        self._connection = self._info = None

    def is_service_running(self) -> bool:
        """Return whether the service runs, without starting it."""
        return self._service.find() is not None

    def start_service(self) -> ServiceInfo:
        """Start the service unless it runs, and return its addresses once it is ready.

        Raises:
            ServiceStartError: It did not become ready within `service.start_timeout_s`.
        """
        self._info = self._service.ensure()
        return self._info

    def stop_service(self) -> bool:
        """Stop the service after its running responses have ended, and wait until it has.

        Returns:
            Whether it was running.
        """
        self.close()
        return self._service.stop()

    @property
    def service_uri(self) -> str:
        """The base URL of the service, "http://127.0.0.1:43121"."""
        return self._require_service().url

    @property
    def endpoint(self) -> str:
        """The base URL for clients of OpenAI's API, "http://127.0.0.1:43121/v1"."""
        return f"{self.service_uri}/v1"

    @property
    def api_key(self) -> str:
        """An API key for clients of OpenAI's API. If the service requires none, it is a placeholder."""
        return read_api_key(self._service.settings.server)

    def openai_client(self) -> "openai.OpenAI":
        """Return a client of the official `openai` package that is configured for the service.

        Raises:
            ServiceError: The package is not installed.
        """
        kind: type[openai.OpenAI] = import_openai().OpenAI
        return kind(base_url=self.endpoint, api_key=self.api_key)

    def list_catalog_models(self) -> list[ModelInfo]:
        """List the models of all catalogs and the cache, best variant of an alias first."""
        return self._run(operations.list_catalog_models())

    def list_cached_models(self) -> list[ModelInfo]:
        """List the models in the cache."""
        return self._run(operations.list_cached_models())

    def list_loaded_models(self) -> list[LoadedModel]:
        """List the loaded models, most recently used first. Does not start the service; the list is then empty."""
        return self._run(operations.list_loaded_models()) if self.is_service_running() else []

    def get_model_info(
        self, alias_or_model_id: str, device: DeviceType | None = None, *, raise_on_not_found: bool = False
    ) -> ModelInfo | None:
        """Return the model with an id, an id without version, or an alias; None if there is none.

        Args:
            alias_or_model_id: The name.
            device: Only consider variants for this type of device.
            raise_on_not_found: Raise an error instead of returning None.

        Raises:
            ModelNotFoundError: There is no such model, and `raise_on_not_found` is true.
        """
        return self._run(operations.get_model_info(alias_or_model_id, device, raise_on_not_found=raise_on_not_found))

    def get_cache_location(self) -> Path:
        """Return the cache folder."""
        return Path(self._require_service().cache_dir)

    def download_model(
        self,
        alias_or_model_id: str,
        device: DeviceType | None = None,
        *,
        progress: Callable[[Download], object] | None = None,
    ) -> ModelInfo:
        """Download a model into the cache. Returns at once if it is cached.

        An exception, such as `KeyboardInterrupt` or one raised by `progress`, cancels the download, unless another
        client waits for it. The next call resumes it.

        Args:
            alias_or_model_id: Id, id without version, or alias.
            device: Only consider variants for this type of device; None lets the service choose.
            progress: Called several times a second with the state of the download.

        Raises:
            ModelNotFoundError: There is no such model.
        """
        info = self._run(operations.resolve(alias_or_model_id, device))
        with self._connect().stream(api.download(info.id)) as events:
            for event in events:
                if progress:
                    progress(event)
        return info

    def is_model_upgradeable(self, alias_or_model_id: str, device: DeviceType | None = None) -> bool:
        """Return whether the latest version of a model is missing from the cache.

        Raises:
            ModelNotFoundError: There is no such model.
        """
        return self._run(operations.is_upgradeable(alias_or_model_id, device))

    def upgrade_model(
        self,
        alias_or_model_id: str,
        device: DeviceType | None = None,
        *,
        progress: Callable[[Download], object] | None = None,
    ) -> ModelInfo:
        """Download the latest version of a model into the cache. See `download_model`.

        Raises:
            ModelNotFoundError: There is no such model.
        """
        model = self._run(operations.find_latest(alias_or_model_id, device))
        return self.download_model(model.info.id, progress=progress)

    def load_model(
        self,
        alias_or_model_id: str,
        device: DeviceType | None = None,
        ttl: float | None = None,
        *,
        provider: str | None = None,
    ) -> LoadedModel:
        """Load a model, or restart the idle timeout of one that is loaded.

        Args:
            alias_or_model_id: Id, id without version, or alias. The model must be cached, unless the setting
                `models.auto_download` is on.
            device: The type of device to run it on; None lets the service choose.
            ttl: Idle seconds after which it is unloaded, 0 for never; None uses the setting `models.ttl_s`.
            provider: Name or alias of the execution provider that runs it, such as "openvino"; None lets the service
                choose.

        Raises:
            ModelNotFoundError: There is no variant for `device`. Without a device, a name that does not exist raises
                `ServiceReplyError`.
        """
        return self._run(operations.load(alias_or_model_id, device, ttl, provider))

    def unload_model(self, alias_or_model_id: str, device: DeviceType | None = None, force: bool = False) -> bool:
        """Unload a model after its running requests have ended.

        Args:
            alias_or_model_id: Id, id without version, or alias.
            device: Only the variant for this type of device; None unloads every variant with this name.
            force: End running requests with an error instead of waiting.

        Returns:
            Whether it was loaded.

        Raises:
            ModelNotFoundError: There is no variant for `device`.
        """
        return self._run(operations.unload(alias_or_model_id, device, force=force))

    def _run(self, operation: Operation[T]) -> T:
        try:
            call = next(operation)
            while True:
                call = operation.send(self._request(call))
        except StopIteration as end:
            result: T = end.value
            return result

    def _request(self, call: Call[T]) -> T:
        """Send a call. If the connection is refused, find or start the service and send it again."""
        try:
            return self._connect().request(call)
        except ServiceUnreachableError as error:
            if not isinstance(error.__cause__, httpx.ConnectError):
                raise
        self.close()
        return self._connect().request(call)

    def _require_service(self) -> ServiceInfo:
        if self._info and not is_alive(self._info.pid, self._info.born):
            self.close()
        if self._info is None:
            self._info = self._service.require()
        return self._info

    def _connect(self) -> Connection:
        info = self._require_service()
        if self._connection is None:
            self._connection = Connection(info, self._service.settings)
        return self._connection

"""The client that waits."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar

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


class Client:
    """The service of this user and cache, which is started when something is asked of it and it does not run.

    Use it as a context, or close it.

    Args:
        settings: What is set; None reads the settings as the service does.
        overrides: "section.key=value" strings that win over the settings file; a new service is given them too.
        config: Settings file to read instead.
        start: Whether to start a service that does not run.

    Every method that asks something of the service may raise `ServiceStartError`, `ServiceReplyError`, which carries
    the service's own sentence, or `ServiceError` if it does not answer.
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
        self._http: httpx.Client | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections. The service runs on, and the client can be used again."""
        if self._http:
            self._http.close()
        self._http = self._info = None

    def is_service_running(self) -> bool:
        """Whether the service runs. Starts nothing."""
        return self._reach.find() is not None

    def start_service(self) -> ServiceInfo:
        """Find the service, or start it; returns when it is ready."""
        self._info = self._reach.ensure()
        return self._info

    def stop_service(self) -> bool:
        """Stop the service; False if it did not run. Its running answers may end first."""
        self.close()
        return self._reach.stop()

    @property
    def service_uri(self) -> str:
        """The base URL of the service, "http://127.0.0.1:43121"."""
        return self._service().url

    @property
    def endpoint(self) -> str:
        """The base URL for clients of OpenAI's API."""
        return f"{self.service_uri}/v1"

    @property
    def api_key(self) -> str:
        """A key for clients of OpenAI's API; any will do unless keys are set."""
        return self._reach.key()

    def openai_client(self) -> "openai.OpenAI":
        """Return a client of the official `openai` package that talks to the service.

        Raises:
            ServiceError: The package is not installed.
        """
        kind: type[openai.OpenAI] = openai_package().OpenAI
        return kind(base_url=self.endpoint, api_key=self.api_key)

    def list_catalog_models(self) -> list[ModelInfo]:
        """List every model there is, best variant of an alias first."""
        return self._run(operations.catalog_models())

    def list_cached_models(self) -> list[ModelInfo]:
        """List the models on this machine."""
        return self._run(operations.cached_models())

    def list_loaded_models(self) -> list[LoadedModel]:
        """List what is loaded, most recently used first. Starts nothing: without a service that is nothing."""
        return self._run(operations.loaded_models()) if self.is_service_running() else []

    def get_model_info(
        self, alias_or_model_id: str, device: DeviceType | None = None, *, raise_on_not_found: bool = False
    ) -> ModelInfo | None:
        """Look a model up by id, id without version, or alias.

        Raises:
            ModelNotFoundError: There is none, and that shall be an error.
        """
        return self._run(operations.model_info(alias_or_model_id, device, raise_on_not_found=raise_on_not_found))

    def get_cache_location(self) -> Path:
        """Return the folder of the models on this machine."""
        return Path(self._service().cache_dir)

    def download_model(
        self,
        alias_or_model_id: str,
        device: DeviceType | None = None,
        *,
        progress: Callable[[Download], object] | None = None,
    ) -> ModelInfo:
        """Bring a model to this machine; returns at once if it is there. Leaving early ends the download.

        Args:
            alias_or_model_id: Which model.
            device: Where it shall run; None leaves the choice.
            progress: Told several times a second how far it is.

        Raises:
            ModelNotFoundError: There is none of that name.
        """
        info = self._run(operations.find(alias_or_model_id, device))
        self._follow(api.download(info.id), progress)
        return info

    def is_model_upgradeable(self, alias_or_model_id: str, device: DeviceType | None = None) -> bool:
        """Whether the latest version of a model is not on this machine.

        Raises:
            ModelNotFoundError: There is none of that name.
        """
        return self._run(operations.is_upgradeable(alias_or_model_id, device))

    def upgrade_model(
        self,
        alias_or_model_id: str,
        device: DeviceType | None = None,
        *,
        progress: Callable[[Download], object] | None = None,
    ) -> ModelInfo:
        """Bring the latest version of a model to this machine; as `download_model`."""
        model = self._run(operations.latest(alias_or_model_id, device))
        return self.download_model(model.info.id, progress=progress)

    def load_model(
        self,
        alias_or_model_id: str,
        device: DeviceType | None = None,
        ttl: float | None = None,
        *,
        provider: str | None = None,
    ) -> LoadedModel:
        """Load a model, or restart its idle clock.

        Args:
            alias_or_model_id: Which model; it must be downloaded, unless models.auto_download is set.
            device: Where it shall run; None leaves the choice.
            ttl: Idle seconds after which it is unloaded, 0 for never; None takes the setting models.ttl_s.
            provider: The execution provider that shall run it, such as "openvino"; None leaves the choice.

        Raises:
            ModelNotFoundError: A device was named, and there is none of that name for it.
        """
        return self._run(operations.load(alias_or_model_id, device, ttl, provider))

    def unload_model(self, alias_or_model_id: str, device: DeviceType | None = None, force: bool = False) -> bool:
        """Unload a model; False if it was not loaded.

        Args:
            alias_or_model_id: Which model.
            device: Of which device; None means every variant of that name.
            force: End its answers at once instead of waiting for them.

        Raises:
            ModelNotFoundError: A device was named, and there is none of that name for it.
        """
        return self._run(operations.unload(alias_or_model_id, device, force=force))

    def _run(self, operation: Operation[T]) -> T:
        try:
            call = next(operation)
            while True:
                call = operation.send(self._do(call))
        except StopIteration as end:
            result: T = end.value
            return result

    def _do(self, call: Call[T]) -> T:
        """Ask, and once more if the service that was known is gone: nothing can have reached it."""
        try:
            return self._ask(call)
        except httpx.ConnectError:
            self.close()
        try:
            return self._ask(call)
        except httpx.ConnectError as error:
            raise unreachable(self._info, error) from error

    def _ask(self, call: Call[T]) -> T:
        http = self._connection()
        try:
            response = http.request(call.method, call.path, content=call.content)
        except httpx.ConnectError:
            raise
        except httpx.HTTPError as error:
            raise unreachable(self._info, error) from error
        return call.read(response.status_code, response.content)

    def _follow(self, call: Call[Download], progress: Callable[[Download], object] | None) -> None:
        http = self._connection()
        try:
            with http.stream(call.method, call.path, content=call.content) as response:
                if response.is_error:
                    call.read(response.status_code, response.read())
                for line in response.iter_lines():
                    if (event := call.read_event(line)) and progress:
                        progress(event)
        except httpx.HTTPError as error:
            raise unreachable(self._info, error) from error

    def _service(self) -> ServiceInfo:
        if self._info and not is_alive(self._info.pid, self._info.born):
            self.close()
        if self._info is None:
            self._info = self._reach.wanted()
        return self._info

    def _connection(self) -> httpx.Client:
        info = self._service()
        if self._http is None:
            transport = httpx.HTTPTransport(uds=info.socket or None)
            self._http = httpx.Client(transport=transport, **self._reach.options(info))
        return self._http

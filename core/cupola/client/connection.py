"""HTTP connections to the service, over its Unix domain socket if it has one and over TCP otherwise.

`AsyncConnection` and `Connection` send the calls of `cupola.client.api` to a service that runs. `ServiceHandle` finds
or starts it.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, closing, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Self, TypeVar

import httpx

from cupola.client.api import Call
from cupola.discovery import ServiceInfo, ensure_service, find_service, stop_service
from cupola.errors import ServiceError, ServiceUnreachableError
from cupola.settings import ServerSettings, Settings, load_settings

T = TypeVar("T")

_CONNECT_TIMEOUT_S = 10.0
_PLACEHOLDER_KEY = "none-needed"  # for services without API keys, because the `openai` package requires one


class ServiceHandle:
    """The background service that belongs to some settings.

    Args:
        settings: The settings; None reads them as the service does.
        overrides: "section.key=value" strings that take precedence over the settings file, also for a new service.
        config: The settings file, if it is not the default one.
        start: Whether `require` may start the service.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        overrides: Sequence[str] = (),
        config: Path | None = None,
        *,
        start: bool,
    ) -> None:
        self.settings = settings or load_settings(overrides, path=config)
        self._overrides, self._config, self._start = overrides, config, start

    def find(self) -> ServiceInfo | None:
        """Return the running service; None if none runs."""
        return find_service(self.settings)

    def ensure(self) -> ServiceInfo:
        """Return the running service, starting it if none runs.

        Raises:
            ServiceStartError: It did not become ready.
        """
        return ensure_service(self.settings, overrides=self._overrides, config=self._config)

    def require(self) -> ServiceInfo:
        """Return the running service, starting it if that is allowed.

        Raises:
            ServiceError: It is not running and must not be started; `ServiceStartError` if it did not become ready.
        """
        if self._start:
            return self.ensure()
        if found := self.find():
            return found
        raise ServiceError(detail="The service is not running. Start it with `cupola service start`.")

    def stop(self) -> bool:
        """Stop the service; returns whether it was running."""
        return stop_service(self.settings)


class Connection:
    """A connection to a running service that blocks the calling thread.

    Args:
        info: The service.
        settings: For the API key.

    Raises:
        ServiceError: The file of API keys cannot be read.
    """

    def __init__(self, info: ServiceInfo, settings: Settings) -> None:
        self.info = info
        transport = httpx.HTTPTransport(uds=info.socket or None)
        self._http = httpx.Client(transport=transport, **_http_options(info, settings.server))

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def request(self, call: Call[T]) -> T:
        """Send a call and return its response. There is no timeout, because loading a model may take minutes.

        Raises:
            ServiceUnreachableError: The service does not answer.
            ServiceReplyError: It answered with an error.
        """
        with _http_errors(self.info, call):
            response = self._http.request(call.method, call.path, content=call.content)
        return call.parse_response(response.status_code, response.content)

    @contextmanager
    def stream(self, call: Call[T]) -> Iterator[Iterator[T]]:
        """Send a call whose response is a stream; yields an iterator of its events. Leaving early closes the stream.

        Raises:
            ServiceUnreachableError: The service does not answer, or the connection broke; also while iterating.
            ServiceReplyError: It answered with an error; also while iterating.
        """
        with (
            _http_errors(self.info, call),
            self._http.stream(call.method, call.path, content=call.content) as response,
        ):
            if response.is_error:
                call.parse_response(response.status_code, response.read())
            with closing(self._events(call, response)) as events:
                yield events

    def _events(self, call: Call[T], response: httpx.Response) -> Generator[T, None, None]:
        with _http_errors(self.info, call):
            for line in response.iter_lines():
                if (event := call.parse_event(line)) is not None:
                    yield event


class AsyncConnection:
    """A connection to a running service, for one task or several. An async context; leaving it closes the connection.

    Args:
        info: The service.
        settings: For the API key.

    Raises:
        ServiceError: The file of API keys cannot be read.
    """

    def __init__(self, info: ServiceInfo, settings: Settings) -> None:
        self.info = info
        transport = httpx.AsyncHTTPTransport(uds=info.socket or None)
        self._http = httpx.AsyncClient(transport=transport, **_http_options(info, settings.server))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection."""
        await self._http.aclose()

    async def request(self, call: Call[T]) -> T:
        """Send a call and return its response; see `Connection.request`. Cancelling closes the request's connection."""
        with _http_errors(self.info, call):
            response = await self._http.request(call.method, call.path, content=call.content)
        return call.parse_response(response.status_code, response.content)

    @asynccontextmanager
    async def stream(self, call: Call[T]) -> AsyncIterator[AsyncIterator[T]]:
        """Send a call whose response is a stream; see `Connection.stream`."""
        with _http_errors(self.info, call):
            async with self._http.stream(call.method, call.path, content=call.content) as response:
                if response.is_error:
                    call.parse_response(response.status_code, await response.aread())
                async with aclosing(self._events(call, response)) as events:
                    yield events

    async def _events(self, call: Call[T], response: httpx.Response) -> AsyncGenerator[T, None]:
        with _http_errors(self.info, call):
            async for line in response.aiter_lines():
                if (event := call.parse_event(line)) is not None:
                    yield event


def read_api_key(settings: ServerSettings) -> str:
    """Return an API key that the service accepts; any string if it requires none.

    Raises:
        ServiceError: The file of API keys cannot be read.
    """
    keys = [*settings.api_keys]
    if not keys and settings.api_key_file:
        path = Path(settings.api_key_file).expanduser()
        try:
            keys = [line.strip() for line in path.read_text("utf-8").splitlines()]
        except (OSError, UnicodeDecodeError) as error:
            raise ServiceError(detail=f"The API keys in {path} cannot be read: {error}.") from None
    return next((key for key in keys if key and not key.startswith("#")), _PLACEHOLDER_KEY)


def import_openai() -> ModuleType:
    """Import the official `openai` package, which is optional.

    Raises:
        ServiceError: It is not installed.
    """
    try:
        import openai  # noqa: PLC0415 - optional
    except ImportError:
        raise ServiceError(detail="The package openai is not installed. Run `pip install openai`.") from None
    return openai


def _http_options(info: ServiceInfo, settings: ServerSettings) -> dict[str, Any]:
    return {
        "base_url": "http://localhost" if info.socket else info.url,
        "headers": {"Content-Type": "application/json", "Authorization": f"Bearer {read_api_key(settings)}"},
        "timeout": httpx.Timeout(None, connect=_CONNECT_TIMEOUT_S),
        "trust_env": False,  # the service runs on this machine, which a proxy cannot reach
    }


@contextmanager
def _http_errors(info: ServiceInfo, call: Call[Any]) -> Iterator[None]:
    try:
        yield
    except httpx.HTTPError as error:
        detail = str(error) or type(error).__name__
        raise ServiceUnreachableError(detail=detail, url=f"{info.url}{call.path}", log=info.log) from error

"""An HTTP request and its response on plain ASGI, so that streamed tokens pass through little code."""

import logging
import re
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import anyio
from anyio.abc import TaskGroup
from msgspec import Struct

from cupola.contracts import Receive, Scope, Send
from cupola_server.openai.decoding import decode_query, is_too_deep
from cupola_server.openai.errors import (
    OPENAI_ERRORS,
    BodyError,
    ErrorReply,
    ErrorShape,
    Headers,
    MediaTypeError,
    MethodNotAllowedError,
    PathNotFoundError,
    describe,
)
from cupola_server.openai.replies import sse_event

logger = logging.getLogger(__name__)
Q = TypeVar("Q", bound=Struct)
T = TypeVar("T")

ROUTE = "cupola.route"
"""The scope key of the path template of the route, for metrics."""

_MEDIA_TYPE = re.compile(rb"application/json\s*(;\s*charset=\"?utf-?8\"?\s*)?;?", re.IGNORECASE)
_JSON: Headers = ((b"content-type", b"application/json"),)
_EVENTS: Headers = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # proxies must not buffer the stream
)


class Exchange:
    """A request and its response. After the body is read, a disconnect of the client cancels the handler."""

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, tasks: TaskGroup, errors: ErrorShape = OPENAI_ERRORS
    ) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.path_params: dict[str, str] = scope.get("path_params", {})
        self._query_string: bytes = scope["query_string"]
        self._headers: dict[bytes, bytes] = dict(scope["headers"])
        self._receive, self._send, self._tasks = receive, send, tasks
        self._errors = errors
        self._state = "waiting"
        self._outlives_client = False
        self._error_events: Callable[[ErrorReply], bytes] = _error_event

    async def json_body(self) -> bytearray:
        """Read the body. The guard around all front-ends limits its size and time.

        Raises:
            MediaTypeError: The content type is not JSON.
            BodyError: The body is nested too deeply.
        """
        _check_media_type(self._headers)
        body = bytearray()
        more = True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                await self._abandon()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        self._tasks.start_soon(self._watch)
        if is_too_deep(body):
            raise BodyError(detail="The body is nested too deeply.")
        return body

    def query(self, kind: type[Q]) -> Q:
        """Decode the query parameters.

        Raises:
            FieldError: A parameter is unknown or invalid.
        """
        return decode_query(self._query_string, kind)

    async def reply(self, status: int, body: bytes, headers: Headers = ()) -> None:
        """Send a complete response, JSON unless the headers set another content type."""
        self._state = "done"
        await send_json(self._send, status, body, headers)

    def outlive_client(self) -> None:
        """Let the handler continue after the client has disconnected."""
        self._outlives_client = True

    async def start_events(self, first: bytes, error_events: Callable[[ErrorReply], bytes] | None = None) -> None:
        """Start a stream of server-sent events.

        Args:
            first: The first events.
            error_events: Creates the last events of a stream that fails; by default one with the error object.
        """
        await self.start_stream(_EVENTS, first, error_events)

    async def start_stream(
        self, headers: Headers, first: bytes, error_events: Callable[[ErrorReply], bytes] | None = None
    ) -> None:
        """Start a stream with these headers, to be continued with `send_events` and `end_events`."""
        self._state = "streaming"
        self._error_events = error_events or self._error_events
        await self._send({"type": "http.response.start", "status": 200, "headers": list(headers)})
        await self.send_events(first)

    async def send_events(self, events: bytes) -> None:
        """Continue the stream. Waits while the client does not read."""
        await self._send({"type": "http.response.body", "body": events, "more_body": True})

    async def end_events(self, last: bytes) -> None:
        """End the stream with its last events."""
        self._state = "done"
        await self._send({"type": "http.response.body", "body": last})

    async def fail(self, error: Exception) -> None:
        """Log an error, and send it unless the response has ended."""
        reply = describe(error)
        if reply.error.code == "internal_error":
            logger.error("%s %s failed", self.method, self.path, exc_info=error)
        elif reply.status >= 500:
            logger.warning("%s %s failed: %s", self.method, self.path, error)
        if self._state == "waiting":
            media = (b"content-type", self._errors.media_type.encode())
            await self.reply(reply.status, self._errors.encode(reply), (media, *reply.headers))
        elif self._state == "streaming":
            await self.end_events(self._error_events(reply))

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        if not self._outlives_client:
            await self._abandon()

    async def _abandon(self) -> None:
        self._tasks.cancel_scope.cancel()
        await anyio.sleep_forever()


Handler = Callable[[Exchange], Awaitable[None]]


class Endpoint:
    """An ASGI application for one path, with a handler per method. It catches all errors of handlers.

    Args:
        path: The path template, for metrics.
        errors: The format of errors.
        head: Whether the GET handler also serves HEAD; not where GET changes state.
        handlers: The handlers by method.
    """

    def __init__(
        self, path: str = "", *, errors: ErrorShape = OPENAI_ERRORS, head: bool = True, **handlers: Handler
    ) -> None:
        self._path = path
        self._errors = errors
        self._head = head
        self._handlers = handlers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if self._path:
            scope[ROUTE] = self._path
        async with anyio.create_task_group() as tasks:
            exchange = Exchange(scope, receive, send, tasks, self._errors)
            try:
                await self._handler(exchange)(exchange)
            except Exception as error:  # noqa: BLE001 - the request boundary
                await exchange.fail(error)
            tasks.cancel_scope.cancel()

    def _handler(self, exchange: Exchange) -> Handler:
        method = "GET" if exchange.method == "HEAD" and self._head else exchange.method
        if method not in self._handlers:
            allow = ", ".join(self._handlers)
            raise MethodNotAllowedError(method=exchange.method, path=exchange.path, allow=allow)
        return self._handlers[method]


class Latest(Generic[T]):
    """Holds the latest value for a sender that may be slower than the source. Values in between are skipped."""

    def __init__(self) -> None:
        self._value: T | None = None
        self._has_ended = False
        self._changed = anyio.Event()

    def put(self, value: T) -> None:
        """Replace the value."""
        self._value = value
        self._changed.set()

    def end(self) -> None:
        """Mark the end, which `next` then returns instead of a value not yet seen."""
        self._has_ended = True
        self._changed.set()

    async def next(self) -> T | None:
        """Wait for the next value; None after the end."""
        await self._changed.wait()
        self._changed = anyio.Event()
        return None if self._has_ended else self._value


async def send_json(send: Send, status: int, body: bytes, headers: Headers = ()) -> None:
    """Send a complete response, JSON unless the headers set another content type."""
    length = (b"content-length", str(len(body)).encode())
    media = () if any(name == b"content-type" for name, _ in headers) else _JSON
    await send({"type": "http.response.start", "status": status, "headers": [*media, length, *headers]})
    await send({"type": "http.response.body", "body": body})


async def send_error(send: Send, error: Exception) -> None:
    """Send an error as a complete response in OpenAI's format."""
    reply = describe(error)
    await send_json(send, reply.status, reply.encode(), reply.headers)


async def not_found(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001 - the shape of an ASGI app
    """Send the error for unknown paths."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.close"})
    else:
        await send_error(send, PathNotFoundError(method=scope["method"], path=scope["path"]))


def _error_event(reply: ErrorReply) -> bytes:
    return sse_event(reply.encode())


def _check_media_type(headers: dict[bytes, bytes]) -> None:
    if not _MEDIA_TYPE.fullmatch(headers.get(b"content-type", b"")):
        raise MediaTypeError(detail="The body must be UTF-8 JSON with the header 'Content-Type: application/json'.")
    if headers.get(b"content-encoding", b"identity") != b"identity":
        raise MediaTypeError(detail="Compressed bodies are not supported. Send the body without 'Content-Encoding'.")

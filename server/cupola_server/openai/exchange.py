"""One request over HTTP and its reply, on bare ASGI: a streamed token passes through as little as possible."""

import logging
import re
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio
from anyio.abc import TaskGroup
from msgspec import Struct

from cupola.contracts import Receive, Scope, Send
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
from cupola_server.openai.nesting import is_too_deep
from cupola_server.openai.query import decode_query
from cupola_server.openai.replies import event

logger = logging.getLogger(__name__)
Q = TypeVar("Q", bound=Struct)

ROUTE = "cupola.route"
"""Where a scope says which route answers: the path with its parameters unfilled, for metrics."""

_MEDIA_TYPE = re.compile(rb"application/json\s*(;\s*charset=\"?utf-?8\"?\s*)?;?", re.IGNORECASE)
_JSON: Headers = ((b"content-type", b"application/json"),)
_EVENTS: Headers = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # a proxy that gathers events would undo streaming
)


class Exchange:
    """A request, and the one reply to it. As soon as the body is read, the client's leaving cancels the handler."""

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
        self._last_events: Callable[[ErrorReply], bytes] = _error_event

    async def json_body(self) -> bytearray:
        """Read the body, whose length and time the guard around all front-ends bounds.

        Raises:
            MediaTypeError: It is not announced as JSON.
            BodyError: It is nested too deeply.
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
        """Decode the parameters of the URL.

        Raises:
            FieldError: One is unknown or wrong.
        """
        return decode_query(self._query_string, kind)

    async def reply(self, status: int, body: bytes, headers: Headers = ()) -> None:
        """Send a whole reply, of JSON unless the headers announce something else."""
        self._state = "done"
        await send_json(self._send, status, body, headers)

    def outlive_client(self) -> None:
        """Let the handler go on when the client has its reply and leaves."""
        self._outlives_client = True

    async def start_events(self, first: bytes, failing: Callable[[ErrorReply], bytes] | None = None) -> None:
        """Begin a stream of server-sent events.

        Args:
            first: The first of them.
            failing: Makes the last events of a stream that breaks off; without it that is one with the error's object.
        """
        await self.start_stream(_EVENTS, first, failing)

    async def start_stream(
        self, headers: Headers, first: bytes, failing: Callable[[ErrorReply], bytes] | None = None
    ) -> None:
        """Begin a stream of whatever the headers announce; `send_events` and `end_events` go on with it."""
        self._state = "streaming"
        self._last_events = failing or self._last_events
        await self._send({"type": "http.response.start", "status": 200, "headers": list(headers)})
        await self.send_events(first)

    async def send_events(self, events: bytes) -> None:
        """Go on with the stream. Waits while the client does not read."""
        await self._send({"type": "http.response.body", "body": events, "more_body": True})

    async def end_events(self, last: bytes) -> None:
        """End the stream with its last events."""
        self._state = "done"
        await self._send({"type": "http.response.body", "body": last})

    async def fail(self, error: Exception) -> None:
        """Tell the client and the log, as far as the reply has not ended."""
        reply = describe(error)
        if reply.error.code == "internal_error":
            logger.error("%s %s failed", self.method, self.path, exc_info=error)
        elif reply.status >= 500:
            logger.warning("%s %s failed: %s", self.method, self.path, error)
        if self._state == "waiting":
            media = (b"content-type", self._errors.media_type.encode())
            await self.reply(reply.status, self._errors.encode(reply), (media, *reply.headers))
        elif self._state == "streaming":
            await self.end_events(self._last_events(reply))

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
    """An ASGI application for one path: a handler per method, and the boundary behind which no error passes.

    Args:
        path: The path as routes write it, for metrics.
        errors: How errors are written.
        head: Whether GET answers HEAD as well; not where it changes something.
        handlers: What answers, by method.
    """

    def __init__(
        self, path: str = "", *, errors: ErrorShape = OPENAI_ERRORS, head: bool = True, **handlers: Handler
    ) -> None:
        self._path = path
        self._errors = errors
        self._head = head
        self._handlers = handlers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
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


async def send_json(send: Send, status: int, body: bytes, headers: Headers = ()) -> None:
    """Send a whole reply, of JSON unless the headers announce something else."""
    length = (b"content-length", str(len(body)).encode())
    media = () if any(name == b"content-type" for name, _ in headers) else _JSON
    await send({"type": "http.response.start", "status": status, "headers": [*media, length, *headers]})
    await send({"type": "http.response.body", "body": body})


async def send_error(send: Send, error: Exception) -> None:
    """Send an error as the whole reply, in OpenAI's shape."""
    reply = describe(error)
    await send_json(send, reply.status, reply.encode(), reply.headers)


async def not_found(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001 - the shape of an ASGI app
    """Answer for every path that nobody knows."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.close"})
    else:
        await send_error(send, PathNotFoundError(method=scope["method"], path=scope["path"]))


def _error_event(reply: ErrorReply) -> bytes:
    return event(reply.encode())


def _check_media_type(headers: dict[bytes, bytes]) -> None:
    if not _MEDIA_TYPE.fullmatch(headers.get(b"content-type", b"")):
        raise MediaTypeError(detail="The body must be sent with the header 'Content-Type: application/json', in UTF-8.")
    if headers.get(b"content-encoding", b"identity") != b"identity":
        raise MediaTypeError(detail="Compressed bodies are not supported. Send the body without 'Content-Encoding'.")

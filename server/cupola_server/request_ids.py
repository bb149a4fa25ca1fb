"""One name for a request: in its reply, in the log, and in the log of the client that chose it."""

import logging
import re
from collections.abc import MutableMapping
from contextvars import ContextVar
from typing import Any
from uuid import uuid4

from cupola.contracts import Receive, Scope, Send
from cupola.frontend import ASGIApp

_HEADER = b"x-request-id"
_VALID = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")  # nothing that could forge a line of a log
_NONE = "-"

_current: ContextVar[str] = ContextVar("request_id", default=_NONE)

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s [%(request_id)s]: %(message)s"
"""What `label_logs` gives to handlers."""


class RequestIds:
    """An ASGI application around another one: takes the client's `X-Request-ID` or makes one, and sends it back."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, which keeps its name in everything that it starts."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = next((value for name, value in scope["headers"] if name == _HEADER), b"")
        request_id = given if _VALID.fullmatch(given) else f"req_{uuid4().hex}".encode()

        async def named(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), (_HEADER, request_id)]}
            await send(message)

        token = _current.set(request_id.decode())
        try:
            await self._app(scope, receive, named)
        finally:
            _current.reset(token)


def request_id() -> str:
    """Return the name of the request that the running task belongs to; "-" if it belongs to none."""
    return _current.get()


class RequestIdFilter(logging.Filter):
    """Gives every record a `request_id`."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Label a record; all pass."""
        record.request_id = _current.get()
        return True


def label_logs() -> None:
    """Have the handlers of the root logger show which request a line belongs to."""
    for handler in logging.getLogger().handlers:
        handler.addFilter(RequestIdFilter())
        handler.setFormatter(logging.Formatter(LOG_FORMAT))

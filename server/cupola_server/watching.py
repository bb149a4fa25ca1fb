"""Tells observers and the log of every request over HTTP."""

import logging
import time
from collections.abc import Callable, MutableMapping
from typing import Any

from cupola.contracts import Event, Receive, Scope, Send
from cupola.events import RequestEnded, RequestStarted
from cupola.frontend import ASGIApp
from cupola_server.openai.exchange import ROUTE

logger = logging.getLogger(__name__)

Observe = Callable[[Event], None]

_CLIENT_LEFT = 499
_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))


class Watched:
    """An ASGI application around another one, whose requests observers are told of. Never a path, a query or a body."""

    def __init__(self, app: ASGIApp, observe: Observe) -> None:
        self._app, self._observe = app, observe

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.monotonic(), _CLIENT_LEFT

        async def noted(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._observe(RequestStarted(method))
        try:
            await self._app(scope, receive, noted)
        finally:
            ended = RequestEnded(method, scope.get(ROUTE, "none"), status, time.monotonic() - started)
            self._observe(ended)
            logger.info("%s %s: %d after %.3f s", method, ended.route, status, ended.total_s)

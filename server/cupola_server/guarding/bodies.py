"""The body of a request: no longer and no slower than allowed."""

from collections.abc import MutableMapping
from typing import Any

import anyio

from cupola.contracts import Receive, Send
from cupola_server.openai.errors import BodyTimeoutError, BodyTooLargeError
from cupola_server.openai.exchange import send_error

_LEAST_BYTES_PER_S = 10_000


class BoundedBody:
    """Hands a body on. When it becomes too long or too slow, the client is told and the application sees it leave.

    Attributes:
        limit_bytes: The longest body.
        timeout_s: Time for a body, beside what its length needs at 10 kB/s: who sends a byte now and then gets no more.
    """

    def __init__(self, receive: Receive, send: Send, *, limit_bytes: int, timeout_s: float) -> None:
        self._receive, self._send = receive, send
        self._limit_bytes = limit_bytes
        self._deadline = anyio.current_time() + timeout_s
        self._received = 0
        self._whole = self._answering = self._refused = False

    async def receive(self) -> MutableMapping[str, Any]:
        """Receive a message for the application."""
        if self._whole:
            return await self._receive()
        if self._refused:
            return {"type": "http.disconnect"}
        with anyio.CancelScope(deadline=self._deadline + self._received / _LEAST_BYTES_PER_S) as waiting:
            message = await self._receive()
        if waiting.cancelled_caught:
            return await self._refuse(BodyTimeoutError())
        if message["type"] != "http.request":
            return message
        self._received += len(message.get("body", b""))
        if self._received > self._limit_bytes:
            return await self._refuse(BodyTooLargeError(limit_bytes=self._limit_bytes))
        self._whole = not message.get("more_body", False)
        return message

    async def send(self, message: MutableMapping[str, Any]) -> None:
        """Send a message of the application, unless the client was told something else."""
        if not self._refused:
            self._answering = True
            await self._send(message)

    async def _refuse(self, error: Exception) -> MutableMapping[str, Any]:
        self._refused = True
        if not self._answering:
            await send_error(self._send, error)
        return {"type": "http.disconnect"}

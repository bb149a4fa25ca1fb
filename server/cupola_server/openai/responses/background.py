"""Responses that are written in the background, for clients that poll them."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from anyio import CancelScope, Event
from msgspec.structs import replace

from cupola.errors import CupolaError
from cupola_server.openai.errors import ResponseNotFoundError, describe
from cupola_server.openai.responses.output import Output
from cupola_server.openai.responses.response import (
    Response,
    ResponseError,
    StoredResponse,
    cancel_response,
    fail_response,
)
from cupola_server.openai.responses.store import ResponseStore

Write = Callable[[Response, Output], Awaitable[Response]]

UNFINISHED = ("queued", "in_progress")

_LOST = "The service stopped before this response was complete."


@dataclass(eq=False)
class _Running:
    """A response that is being written."""

    record: StoredResponse
    output: Output = field(default_factory=Output)
    scope: CancelScope = field(default_factory=CancelScope)
    ended: Event = field(default_factory=Event)


class BackgroundResponses:
    """The running background responses. Each runs in the task of the request that created it."""

    def __init__(self, store: ResponseStore) -> None:
        self._store = store
        self._running: dict[str, _Running] = {}

    async def add(self, record: StoredResponse) -> None:
        """Store a response before it is written, so that clients can find it.

        Raises:
            ResponseStoreError: It cannot be stored.
        """
        await self._store.put(record)
        self._running[record.response.id] = _Running(record)

    async def run(self, id: str, write: Write) -> None:  # noqa: A002 - the API's name
        """Write an added response and store the result. If the service stops, the response is lost."""
        running = self._running[id]
        response = running.record.response
        try:
            with running.scope:
                response = await self._outcome(running, write)
            if running.scope.cancelled_caught:
                running.output.abort()
                response = cancel_response(response, running.output.items)
            await self._store.put(replace(running.record, response=response))
        finally:
            del self._running[id]
            running.ended.set()

    async def find(self, id: str) -> StoredResponse:  # noqa: A002 - the API's name
        """Return a response in its current state, whether it ran in the background or not.

        Raises:
            ResponseNotFoundError: No response has this id.
            ResponseStoreError: It cannot be read.
        """
        if running := self._running.get(id):
            output = tuple(running.output.items)
            response = replace(running.record.response, status="in_progress", output=output)
            return replace(running.record, response=response)
        record = await self._store.get(id)
        if record is None:
            raise ResponseNotFoundError(response=id)
        if record.response.status in UNFINISHED:
            error = ResponseError(code="server_error", message=_LOST)
            return replace(record, response=replace(record.response, status="failed", error=error))
        return record

    async def cancel(self, id: str) -> None:  # noqa: A002 - the API's name
        """Cancel a response if it is running, and wait until this is stored."""
        if running := self._running.get(id):
            running.scope.cancel()
            await running.ended.wait()

    async def _outcome(self, running: _Running, write: Write) -> Response:
        response = replace(running.record.response, status="in_progress")
        try:
            return await write(response, running.output)
        except CupolaError as error:
            running.output.abort()
            return fail_response(response, running.output.items, describe(error).error)

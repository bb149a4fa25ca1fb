"""Responses that are written while their client does something else, and asks for them later."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from anyio import CancelScope, Event
from msgspec.structs import replace

from cupola.errors import CupolaError
from cupola_server.openai.errors import ResponseNotFoundError, describe
from cupola_server.openai.responses.output import Output
from cupola_server.openai.responses.response import Response, ResponseError, StoredResponse
from cupola_server.openai.responses.shown import cancelled, failed
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
    over: Event = field(default_factory=Event)


class Background:
    """The responses that run in the background. Each runs in the task of the request that asked for it."""

    def __init__(self, store: ResponseStore) -> None:
        self._store = store
        self._running: dict[str, _Running] = {}

    async def add(self, record: StoredResponse) -> None:
        """Store a response that is about to be written, so that it is found from now on.

        Raises:
            ResponseStoreError: It cannot be stored.
        """
        await self._store.put(record)
        self._running[record.response.id] = _Running(record)

    async def run(self, id: str, write: Write) -> None:  # noqa: A002 - the API's word
        """Write a response that was added, and store how it ended. If the service stops, it is lost."""
        running = self._running[id]
        response = running.record.response
        try:
            with running.scope:
                response = await self._outcome(running, write)
            if running.scope.cancelled_caught:
                running.output.break_off()
                response = cancelled(response, running.output.items)
            await self._store.put(replace(running.record, response=response))
        finally:
            del self._running[id]
            running.over.set()

    async def find(self, id: str) -> StoredResponse:  # noqa: A002 - the API's word
        """Find a response as it is now, whether it ran in the background or not.

        Raises:
            ResponseNotFoundError: There is none.
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
            problem = ResponseError(code="server_error", message=_LOST)
            return replace(record, response=replace(record.response, status="failed", error=problem))
        return record

    async def cancel(self, id: str) -> None:  # noqa: A002 - the API's word
        """Cancel a response if it is being written, and wait until that is stored."""
        if running := self._running.get(id):
            running.scope.cancel()
            await running.over.wait()

    async def _outcome(self, running: _Running, write: Write) -> Response:
        response = replace(running.record.response, status="in_progress")
        try:
            return await write(response, running.output)
        except CupolaError as error:
            running.output.break_off()
            return failed(response, running.output.items, describe(error).error)

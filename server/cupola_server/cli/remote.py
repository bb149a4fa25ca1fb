"""The running service, as commands see it that need one: loading, unloading, answers. Imports httpx."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar

from cupola.client import api
from cupola.client.api import Call
from cupola.client.connection import AsyncConnection
from cupola.discovery import ServiceInfo, find_service
from cupola.errors import CupolaError, ServiceReplyError
from cupola.messages import ChatPrompt, GenerateRequest, TurnFinished, TurnText, Usage
from cupola.settings import Settings
from cupola_server.cli.remote_errors import ConversationTooLongError

T = TypeVar("T")

_TOO_LONG = "context_length_exceeded"


class RemoteService:
    """A running service that loads models and runs chats.

    Every method raises `ServiceUnreachableError` if the service does not answer, and `ServiceReplyError` if it answers
    with an error.
    """

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def do(self, call: Call[T]) -> T:
        """Send a call and return its reply."""
        return await self._connection.request(call)

    async def unload(self, model: str, *, force: bool = False, wait_s: float | None = None) -> bool:
        """Unload a model; returns whether it was loaded.

        Args:
            model: Its name.
            force: End its running requests at once.
            wait_s: The longest wait for running requests; None waits without limit.

        Raises:
            ServiceReplyError: It still has running requests.
        """
        return (await self.do(api.unload(model, force=force, wait_s=wait_s))).unloaded

    @asynccontextmanager
    async def generate(self, request: GenerateRequest) -> "AsyncIterator[RemoteTurn]":
        """Run a turn of a chat. Leaving early cancels it.

        Raises:
            ConversationTooLongError: The conversation exceeds the model's context length.
        """
        call = Call("POST", "/v1/chat/completions", dict[str, Any], _chat_body(request))
        with _context_errors():
            async with self._connection.stream(call) as chunks:
                yield RemoteTurn(chunks)


class RemoteTurn:
    """A turn that the service runs."""

    def __init__(self, chunks: AsyncIterator[dict[str, Any]]) -> None:
        self._chunks = chunks

    async def __aiter__(self) -> AsyncIterator[TurnText | TurnFinished]:
        """Iterate over the events of the turn; the last one is `TurnFinished`."""
        reason, usage = "stop", Usage(0, 0)
        with _context_errors():
            async for chunk in self._chunks:
                if counts := chunk.get("usage"):
                    usage = Usage(counts["prompt_tokens"], counts["completion_tokens"])
                for choice in chunk["choices"]:
                    reason = choice.get("finish_reason") or reason
                    if text := choice["delta"].get("content"):
                        yield TurnText(0, text, 1)
        yield TurnFinished(0, "length" if reason == "length" else "stop", usage)


@asynccontextmanager
async def open_service(info: ServiceInfo, settings: Settings) -> AsyncIterator[RemoteService]:
    """Open a connection to a service."""
    async with AsyncConnection(info, settings) as connection:
        yield RemoteService(connection)


async def release(model_id: str, settings: Settings) -> None:
    """Have a service that runs let go of a model whose files are about to go.

    Raises:
        ServiceReplyError: It is answering somebody with it.
    """
    if info := find_service(settings):
        async with open_service(info, settings) as service:
            await service.unload(model_id, wait_s=0)


@contextmanager
def _context_errors() -> Iterator[None]:
    """Turn the service's error about the context length into `ConversationTooLongError`."""
    try:
        yield
    except ServiceReplyError as error:
        raise _known(error) from None


def _known(error: ServiceReplyError) -> CupolaError:
    return ConversationTooLongError(detail=error.detail) if error.code == _TOO_LONG else error


def _chat_body(request: GenerateRequest) -> dict[str, object]:
    assert isinstance(request.prompt, ChatPrompt)
    body = {
        "model": request.model,
        "messages": [{"role": each.role, "content": each.content} for each in request.prompt.messages],
        "temperature": request.sampling.temperature,
        "seed": request.sampling.seed,
        "max_tokens": request.max_tokens,
        "ttl": request.ttl_s,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    return {name: value for name, value in body.items() if value is not None}

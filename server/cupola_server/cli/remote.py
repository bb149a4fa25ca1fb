"""A running service as a chat backend, and unloading its models. Imports httpx."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from cupola.client import api
from cupola.client.api import Call
from cupola.client.connection import AsyncConnection
from cupola.discovery import ServiceInfo, find_service
from cupola.errors import ContextLengthExceededError, ServiceReplyError
from cupola.messages import ChatPrompt, GenerateRequest, TurnFinished, TurnText, Usage
from cupola.settings import Settings

T = TypeVar("T")

_CONTEXT_LENGTH_CODE = "context_length_exceeded"


@dataclass(eq=False, kw_only=True)
class ConversationTooLongError(ContextLengthExceededError):
    """The service refused a conversation that exceeds the model's context length; `detail` is its message."""

    context_length: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def __str__(self) -> str:
        return self.detail


class RemoteService:
    """A running service that loads models and runs chats.

    Every method raises `ServiceUnreachableError` if the service does not answer, and `ServiceReplyError` if it answers
    with an error.
    """

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def request(self, call: Call[T]) -> T:
        """Send a call and return its response."""
        return await self._connection.request(call)

    async def unload(self, model: str, *, force: bool = False, wait_s: float | None = None) -> bool:
        """Unload a model; returns whether it was loaded.

        Args:
            model: The model's name.
            force: End its running requests at once.
            wait_s: The longest wait for running requests; None waits without limit.

        Raises:
            ServiceReplyError: It still has running requests.
        """
        return (await self.request(api.unload(model, force=force, wait_s=wait_s))).unloaded

    @asynccontextmanager
    async def generate(self, request: GenerateRequest) -> "AsyncIterator[RemoteTurn]":
        """Run a turn of a chat. Leaving the context early cancels it.

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
    """Open a connection to a running service."""
    async with AsyncConnection(info, settings) as connection:
        yield RemoteService(connection)


async def unload_before_removal(model_id: str, settings: Settings) -> None:
    """Unload a model from the running service, if there is one, because its files are about to be deleted.

    Raises:
        ServiceReplyError: The model has running requests.
    """
    if info := find_service(settings):
        async with open_service(info, settings) as service:
            await service.unload(model_id, wait_s=0)


@contextmanager
def _context_errors() -> Iterator[None]:
    """Convert the service's error about the context length to `ConversationTooLongError`."""
    try:
        yield
    except ServiceReplyError as error:
        if error.code != _CONTEXT_LENGTH_CODE:
            raise
        raise ConversationTooLongError(detail=error.detail) from None


def _chat_body(request: GenerateRequest) -> dict[str, object]:
    assert isinstance(request.prompt, ChatPrompt)
    body = {
        "model": request.model,
        "messages": [{"role": message.role, "content": message.content} for message in request.prompt.messages],
        "temperature": request.sampling.temperature,
        "seed": request.sampling.seed,
        "max_tokens": request.max_tokens,
        "ttl": request.ttl_s,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    return {name: value for name, value in body.items() if value is not None}

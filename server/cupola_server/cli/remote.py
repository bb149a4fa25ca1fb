"""The running service, as commands see it that need one: loading, unloading, answers. Imports httpx."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar

import httpx

from cupola.client.api import Call, Unloaded, UnloadRequest
from cupola.client.connection import Reach
from cupola.discovery import ServiceInfo, find_service
from cupola.errors import CupolaError, ServiceReplyError
from cupola.messages import ChatPrompt, GenerateRequest, TurnFinished, TurnText, Usage
from cupola.settings import Settings
from cupola_server.cli.remote_errors import ConversationTooLongError, ServiceUnreachableError

T = TypeVar("T")

_CHAT = Call("POST", "/v1/chat/completions", dict[str, Any])
_TOO_LONG = "context_length_exceeded"


class RemoteService:
    """Asks a running service, through its socket where there is one, and answers prompts by it."""

    def __init__(self, info: ServiceInfo, client: httpx.AsyncClient) -> None:
        self.info = info
        self._client = client

    async def do(self, call: Call[T]) -> T:
        """Have something done.

        Raises:
            ServiceUnreachableError: There is no answer.
            ServiceReplyError: It is an error.
        """
        with _reachable(self.info, call.path):
            response = await self._client.request(call.method, call.path, content=call.content)
        return call.read(response.status_code, response.content)

    async def unload(self, model: str, *, force: bool = False, wait_s: float | None = None) -> bool:
        """Have a model unloaded; False if it was not loaded.

        Args:
            model: Its name.
            force: End its running answers at once.
            wait_s: Longest wait for them; None waits without limit.

        Raises:
            ServiceReplyError: It is still answering.
        """
        body = UnloadRequest(model=model, force=force, wait=wait_s)
        return (await self.do(Call("POST", "/cupola/unload", Unloaded, body))).unloaded

    @asynccontextmanager
    async def generate(self, request: GenerateRequest) -> "AsyncIterator[RemoteTurn]":
        """Run a turn of a chat. Leaving early cancels it.

        Raises:
            ServiceUnreachableError, ServiceReplyError: It did not begin. Iterating raises them as well.
            ConversationTooLongError: It does not fit in the model's context.
        """
        with _reachable(self.info, _CHAT.path):
            async with self._client.stream(_CHAT.method, _CHAT.path, json=_chat_body(request)) as response:
                if response.is_error:
                    with _fitting():
                        _CHAT.read(response.status_code, await response.aread())
                yield RemoteTurn(response)


class RemoteTurn:
    """A turn that the service runs."""

    def __init__(self, response: httpx.Response) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[TurnText | TurnFinished]:
        """Iterate over the events of the answer; the last one is `TurnFinished`."""
        reason, usage = "stop", Usage(0, 0)
        async for line in self._response.aiter_lines():
            with _fitting():
                chunk = None if line == "data: [DONE]" else _CHAT.read_event(line)
            if chunk is None:
                continue
            if counts := chunk.get("usage"):
                usage = Usage(counts["prompt_tokens"], counts["completion_tokens"])
            for choice in chunk["choices"]:
                reason = choice.get("finish_reason") or reason
                if text := choice["delta"].get("content"):
                    yield TurnText(0, text, 1)
        yield TurnFinished(0, "length" if reason == "length" else "stop", usage)


@asynccontextmanager
async def open_service(info: ServiceInfo, settings: Settings) -> AsyncIterator[RemoteService]:
    """Open connections to a service."""
    reach = Reach(settings, (), None, start=False)
    transport = httpx.AsyncHTTPTransport(uds=info.socket or None)
    async with httpx.AsyncClient(transport=transport, **reach.options(info)) as client:
        yield RemoteService(info, client)


async def release(model_id: str, settings: Settings) -> None:
    """Have a service that runs let go of a model whose files are about to go.

    Raises:
        ServiceReplyError: It is answering somebody with it.
    """
    if info := find_service(settings):
        async with open_service(info, settings) as service:
            await service.unload(model_id, wait_s=0)


@contextmanager
def _reachable(info: ServiceInfo, path: str) -> Iterator[None]:
    try:
        yield
    except httpx.HTTPError as error:
        detail = str(error) or type(error).__name__
        raise ServiceUnreachableError(uri=f"{info.url}{path}", detail=detail) from error


@contextmanager
def _fitting() -> Iterator[None]:
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

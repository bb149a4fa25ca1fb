"""Servers that nobody here wrote an adapter for: one that runs already, and one that a command line starts."""

import shlex
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import httpx
import msgspec

from cupola_server.bench.answers import Answer, Prompt
from cupola_server.bench.client import ChatClient, PeerError
from cupola_server.bench.targets.process import START_S, ServerProcess
from cupola_server.bench.targets.target import Started, Target

_POLL_S = 0.1


class RemoteTarget(Target):
    """A server at a base URL. Its processor time and memory cannot be seen.

    Args:
        url: "http://127.0.0.1:8080/v1"; "#name" behind it chooses the model, else the first that it lists.
        key: API key, if it wants one.
    """

    def __init__(self, url: str, key: str = "") -> None:
        base, _, self.model = url.partition("#")
        self.name = self.title = self._url = base.rstrip("/")
        self._key = key
        self._client: ChatClient

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Started]:
        """Ask for its models."""
        started = time.perf_counter()
        models = await models_of(self.name, self._url, self._key)
        self.model = self.model or models[0]
        self._client = ChatClient(self.name, self._url, self.model, key=self._key)
        yield Started(time.perf_counter() - started)

    async def ask(self, prompt: Prompt, new_tokens: int) -> Answer:
        """Ask over HTTP."""
        return await self._client.ask(prompt, new_tokens)


class CommandTarget(Target):
    """A server that a command line starts.

    Args:
        command: Words as in a shell; {port} and the names of the fields are filled in. It must listen on that port
            of 127.0.0.1, with OpenAI's API under /v1.
        model: The model's id.
        fields: What they are filled with.
    """

    def __init__(self, command: str, model: str, **fields: object) -> None:
        self._command, self._fields = command, fields
        self.name = self.title = shlex.split(command)[0].rpartition("/")[2]
        self.model = model
        self.note = f"started as: {command}"
        self._client: ChatClient

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Started]:
        """Start it and wait until it lists a model."""
        port = _free_port()
        try:
            words = [word.format(port=port, **self._fields) for word in shlex.split(self._command)]
        except (KeyError, IndexError, ValueError) as error:
            known = ", ".join(f"{{{name}}}" for name in ("port", *self._fields))
            detail = f"its command has a placeholder that is none of {known}: {error}"
            raise PeerError(name=self.name, detail=detail) from error
        started = time.perf_counter()
        async with ServerProcess(self.name, words) as process:
            url = f"http://127.0.0.1:{port}/v1"
            models = await self._wait(process, url)
            self._client = ChatClient(self.name, url, models[0], {"ignore_eos": True})
            yield Started(time.perf_counter() - started, (process.pid,), settings={"command": self._command})

    async def ask(self, prompt: Prompt, new_tokens: int) -> Answer:
        """Ask over HTTP."""
        return await self._client.ask(prompt, new_tokens)

    async def _wait(self, process: ServerProcess, url: str) -> list[str]:
        """Return the models that it lists as soon as it answers."""
        deadline = anyio.current_time() + START_S
        while True:
            try:
                return await models_of(self.name, url)
            except PeerError as error:
                if process.ended() or anyio.current_time() > deadline:
                    detail = f"{error.detail}. {process.last_words()}"
                    raise PeerError(name=self.name, detail=detail) from None
            await anyio.sleep(_POLL_S)  # a server tells nobody that it is ready


async def models_of(name: str, url: str, key: str = "") -> list[str]:
    """Return the names of a server's models.

    Raises:
        PeerError: It does not answer, or has none.
    """
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        async with httpx.AsyncClient(timeout=30, headers=headers) as client:
            reply = await client.get(f"{url}/models")
            models = [each["id"] for each in msgspec.json.decode(reply.content)["data"]]
    except (httpx.HTTPError, msgspec.DecodeError, KeyError, TypeError) as error:
        raise PeerError(name=name, detail=f"{url}/models gives no list of models: {error}") from error
    if not models:
        raise PeerError(name=name, detail="it serves no model")
    return models


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port

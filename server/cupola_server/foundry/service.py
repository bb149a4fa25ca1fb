"""The service's own endpoints: status, shutdown, registration of external models, and counting tokens."""

import os
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

import msgspec

from cupola.frontend import ChatPrompt, EngineView, ServiceView
from cupola_server.foundry.errors import NotStoppableError
from cupola_server.foundry.schema import RegisterRequest, ServiceStatus, ShuttingDown, TokenCount, WebServiceStatus
from cupola_server.openai.chat import to_chat_params
from cupola_server.openai.decoding import BodyDecoder
from cupola_server.openai.exchange import Exchange
from cupola_server.openai.schema import ChatRequest
from cupola_server.openai.turns import ChatTurns

T = TypeVar("T")

EMPTY_BODY = ((b"content-type", b"text/plain"),)
_UNIX = "unix:"


class CaseInsensitiveDecoder(Generic[T]):
    """Decodes JSON bodies of dialect A, whose clients spell keys in three ways.

    Args:
        kind: The type to decode to. Its keys, and those of objects directly inside it, are in lower case.
    """

    def __init__(self, kind: type[T]) -> None:
        self._raw = BodyDecoder(dict[str, Any])
        self._decoder = BodyDecoder(kind)

    def decode(self, body: bytearray) -> T:
        """Decode a body.

        Raises:
            RequestError: It is not valid JSON, or does not match the type.
        """
        return self._decoder.decode(msgspec.json.encode(_lower_keys(self._raw.decode(body))))


class Status:
    """Serves the status and the shutdown of the service."""

    def __init__(self, engine: EngineView, service: ServiceView | None) -> None:
        self._engine, self._service = engine, service

    async def show(self, exchange: Exchange) -> None:
        """Send the status of dialect A."""
        providers = dict.fromkeys(device.provider for device in self._engine.devices())
        status = ServiceStatus(
            endpoints=self._endpoints(),
            model_dir_path=str(self._engine.cache_location),
            pipe_name=next((url.removeprefix(_UNIX) for url in self._urls() if url.startswith(_UNIX)), ""),
            auto_registration_status=f"Valid EPs: {', '.join(providers) or 'none'}",
        )
        await exchange.reply(200, msgspec.json.encode(status))

    async def show_web_service(self, exchange: Exchange) -> None:
        """Send the status of dialects B and C."""
        location = str(self._engine.cache_location)
        status = WebServiceStatus(
            endpoints=self._endpoints(), model_cache_path=location, model_dir_path=location, pid=os.getpid()
        )
        await exchange.reply(200, msgspec.json.encode(status))

    async def shut_down(self, exchange: Exchange) -> None:
        """Stop the service gracefully: this response and running ones are still sent."""
        if self._service is None:
            raise NotStoppableError
        self._service.stop()
        await exchange.reply(200, msgspec.json.encode(ShuttingDown()))

    def _urls(self) -> tuple[str, ...]:
        return () if self._service is None else tuple(self._service.urls)

    def _endpoints(self) -> tuple[str, ...]:
        return tuple(url for url in self._urls() if not url.startswith(_UNIX))


class ExternalRegistration:
    """Registers external models until the service stops. Those of the settings are unaffected."""

    def __init__(self, engine: EngineView) -> None:
        self._engine = engine
        self._decoder = CaseInsensitiveDecoder(RegisterRequest)

    async def register(self, exchange: Exchange) -> None:
        """Register one model. The request carries no key; a service that needs one must be in the settings."""
        request = self._decoder.decode(await exchange.json_body())
        await self._engine.register(request.type_name, request.model_name, request.base_uri)
        await exchange.reply(200, b"", EMPTY_BODY)


class TokenCounter:
    """Counts the tokens of a chat as the model receives it, with its template and the start of the answer."""

    def __init__(self, engine: EngineView) -> None:
        self._engine = engine
        self._turns = ChatTurns(engine)
        self._decoder = BodyDecoder(ChatRequest)

    async def count(self, exchange: Exchange) -> None:
        """Count the tokens of a chat completion request. Loads the model if needed."""
        request = self._decoder.decode(await exchange.json_body())
        prompt = (await self._turns.prepare(to_chat_params(request))).request.prompt
        assert isinstance(prompt, ChatPrompt)
        tokens = await self._engine.tokenize(request.model, prompt)
        await exchange.reply(200, msgspec.json.encode(TokenCount(token_count=len(tokens))))


def _lower_keys(body: Mapping[str, Any]) -> dict[str, Any]:
    """Convert the keys of a body, and of objects directly inside it, to lower case."""

    def lower(value: object) -> object:
        return {str(key).lower(): inner for key, inner in value.items()} if isinstance(value, Mapping) else value

    return {key.lower(): lower(value) for key, value in body.items()}

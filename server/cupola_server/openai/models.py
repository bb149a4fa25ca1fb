"""GET /v1/models and GET /v1/models/{id}."""

import msgspec

from cupola.frontend import EngineView, ModelStatus
from cupola_server.openai.exchange import Exchange
from cupola_server.openai.schema import (
    Model,
    ModelList,
)

_EMBEDDINGS = "embeddings"
_TASKS = {"chat-completion", "chat-completions", "coding", "vision-language-chat", "text-generation", _EMBEDDINGS}


class Models:
    """Serves the models that this front-end can run."""

    def __init__(self, engine: EngineView) -> None:
        self._engine = engine

    async def list(self, exchange: Exchange) -> None:
        """List the models available without a download: loaded ones first, embedding models last.

        Clients offer all listed models to their users, so models that are not downloaded are omitted.
        """
        ready = [
            status
            for status in await self._engine.models()
            if (status.cached or status.loaded) and status.info.task in _TASKS
        ]
        ready.sort(key=lambda status: (status.info.task == _EMBEDDINGS, not status.loaded))
        await exchange.reply(200, msgspec.json.encode(ModelList(data=tuple(map(_describe, ready)))))

    async def retrieve(self, exchange: Exchange) -> None:
        """Send one model, downloaded or not, by any name that a chat request may use."""
        status = await self._engine.resolve(exchange.path_params["id"])
        await exchange.reply(200, msgspec.json.encode(_describe(status)))


def _describe(status: ModelStatus) -> Model:
    info = status.info
    return Model(
        id=info.id,
        created=info.created_unix,
        owned_by=info.publisher,
        alias=info.alias,
        cached=status.cached,
        loaded=status.loaded,
        device=info.device,
        provider=info.provider,
        context_length=info.context_length or None,
        max_output_tokens=info.max_output_tokens,
    )

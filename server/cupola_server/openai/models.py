"""GET /v1/models and GET /v1/models/{id}."""

from cupola.frontend import EngineView
from cupola_server.openai.exchange import Exchange
from cupola_server.openai.replies import model, model_list

_EMBEDDINGS = "embeddings"
_TASKS = {"chat-completion", "chat-completions", "coding", "vision-language-chat", "text-generation", _EMBEDDINGS}


class Models:
    """Shows the models that this front-end can run."""

    def __init__(self, engine: EngineView) -> None:
        self._engine = engine

    async def list(self, exchange: Exchange) -> None:
        """List the models that answer without a download: the loaded ones first, those for embeddings last.

        Clients offer every listed model to their users, so what is merely in a catalog is left out.
        """
        ready = [
            status
            for status in await self._engine.models()
            if (status.cached or status.loaded) and status.info.task in _TASKS
        ]
        ready.sort(key=lambda status: (status.info.task == _EMBEDDINGS, not status.loaded))
        await exchange.reply(200, model_list(ready))

    async def retrieve(self, exchange: Exchange) -> None:
        """Show one model, downloaded or not, by any name that a chat request may use."""
        await exchange.reply(200, model(await self._engine.resolve(exchange.path_params["id"])))

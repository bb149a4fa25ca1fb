"""/models/loaded, /models/load and /models/unload: what the web service of the SDKs 1.x and 2.x has."""

import msgspec

from cupola.errors import LoadError, ModelNotCachedError, ModelNotFoundError
from cupola.frontend import EngineView, ModelInfo
from cupola_server.foundry.errors import LoadFailedError, NoMatchError, NotCachedError
from cupola_server.foundry.schema import Loaded, Unloaded
from cupola_server.openai.exchange import Exchange


class WebServiceModels:
    """Shows, loads and unloads models by any name they have; the real ones want the alias, or the id."""

    def __init__(self, engine: EngineView) -> None:
        self._engine = engine

    async def list(self, exchange: Exchange) -> None:
        """List the ids of the loaded models."""
        ids = [resident.info.id for resident in self._engine.residents()]
        await exchange.reply(200, msgspec.json.encode(ids))

    async def load(self, exchange: Exchange) -> None:
        """Load a model."""
        info = await self._named(exchange)
        was_loaded = any(resident.info.id == info.id for resident in self._engine.residents())
        try:
            await self._engine.load(info.id)
        except ModelNotCachedError:
            raise NotCachedError from None
        except LoadError as error:
            raise LoadFailedError(model=error.model, detail=error.detail) from None
        await exchange.reply(200, msgspec.json.encode(Loaded("already_loaded" if was_loaded else "loaded")))

    async def unload(self, exchange: Exchange) -> None:
        """Unload a model; one that is answering stays."""
        info = await self._named(exchange)
        done = await self._engine.unload(info.id, wait_s=0)
        await exchange.reply(200, msgspec.json.encode(Unloaded("unloaded" if done else "not_loaded")))

    async def _named(self, exchange: Exchange) -> ModelInfo:
        name = exchange.path_params["name"]
        try:
            return (await self._engine.resolve(name)).info
        except ModelNotFoundError:
            raise NoMatchError(model=name[:80]) from None

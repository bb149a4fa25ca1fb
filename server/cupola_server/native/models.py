"""Models over HTTP: listing, loading and unloading."""

import msgspec

from cupola.client.api import CatalogModels, LoadedModel, LoadedModels, LoadRequest, Unloaded, UnloadRequest
from cupola.frontend import EngineView, ResidentStatus
from cupola_server.openai.decoding import BodyDecoder
from cupola_server.openai.exchange import Exchange


class ModelEndpoints:
    """Lists, loads and unloads models."""

    def __init__(self, engine: EngineView) -> None:
        self._engine = engine
        self._load = BodyDecoder(LoadRequest)
        self._unload = BodyDecoder(UnloadRequest)

    async def catalog(self, exchange: Exchange) -> None:
        """List all models."""
        models = CatalogModels(tuple(await self._engine.models()))
        await exchange.reply(200, msgspec.json.encode(models))

    async def list(self, exchange: Exchange) -> None:
        """List the loaded models."""
        models = LoadedModels(tuple(map(_to_loaded_model, self._engine.residents())))
        await exchange.reply(200, msgspec.json.encode(models))

    async def load(self, exchange: Exchange) -> None:
        """Load a model, or reset its idle timer."""
        request = self._load.decode(await exchange.json_body())
        status = await self._engine.load(request.model, ttl_s=request.ttl, provider=request.provider)
        await exchange.reply(200, msgspec.json.encode(_to_loaded_model(status)))

    async def unload(self, exchange: Exchange) -> None:
        """Unload a model."""
        request = self._unload.decode(await exchange.json_body())
        done = await self._engine.unload(request.model, force=request.force, wait_s=request.wait)
        await exchange.reply(200, msgspec.json.encode(Unloaded(done)))


def _to_loaded_model(status: ResidentStatus) -> LoadedModel:
    report = status.report
    return LoadedModel(
        id=status.info.id,
        alias=status.info.alias,
        session=report.kind,
        reason=report.reason,
        layout=report.layout,
        provider=report.provider,
        nodes=report.nodes,
        fallback=report.fallback,
        capacity=report.capacity,
        context_length=report.context_length,
        threads=report.threads,
        turns=status.turns,
        memory_bytes=status.memory_bytes,
        load_s=report.load_s,
        pid=status.pid,
        pinned=status.pinned,
        ttl_s=status.ttl_s,
        expires_in_s=status.expires_in_s,
    )

"""The routes of Cupola's own front-end."""

import msgspec

from cupola import ASGIApp, EngineView, ResidentStatus
from cupola_server.native.schema import LoadedModel, LoadedModels, LoadRequest, Unloaded, UnloadRequest
from cupola_server.openai.decoding import BodyDecoder
from cupola_server.openai.exchange import Exchange
from cupola_server.openapi import Api, Operation

_LOADS_A_MODEL = (404, 409, 500, 501, 502, 503, 507)


def build_app(engine: EngineView) -> ASGIApp:
    """Build the ASGI application of the front-end over an engine."""
    residents = Residents(engine)
    return Api(
        [
            Operation(
                method="GET",
                path="/cupola/ps",
                handler=residents.list,
                summary="List what is loaded",
                reply=LoadedModels,
            ),
            Operation(
                method="POST",
                path="/cupola/load",
                handler=residents.load,
                summary="Load a model",
                request=LoadRequest,
                reply=LoadedModel,
                errors=_LOADS_A_MODEL,
            ),
            Operation(
                method="POST",
                path="/cupola/unload",
                handler=residents.unload,
                summary="Unload a model",
                request=UnloadRequest,
                reply=Unloaded,
                errors=(404, 409),
            ),
        ]
    )


class Residents:
    """Shows, loads and unloads."""

    def __init__(self, engine: EngineView) -> None:
        self._engine = engine
        self._load = BodyDecoder(LoadRequest)
        self._unload = BodyDecoder(UnloadRequest)

    async def list(self, exchange: Exchange) -> None:
        """List what is loaded."""
        models = LoadedModels(tuple(map(_loaded, self._engine.residents())))
        await exchange.reply(200, msgspec.json.encode(models))

    async def load(self, exchange: Exchange) -> None:
        """Load a model, or restart its idle clock."""
        request = self._load.decode(await exchange.json_body())
        status = await self._engine.load(request.model, ttl_s=request.ttl)
        await exchange.reply(200, msgspec.json.encode(_loaded(status)))

    async def unload(self, exchange: Exchange) -> None:
        """Unload a model."""
        request = self._unload.decode(await exchange.json_body())
        done = await self._engine.unload(request.model, force=request.force, wait_s=request.wait)
        await exchange.reply(200, msgspec.json.encode(Unloaded(done)))


def _loaded(status: ResidentStatus) -> LoadedModel:
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

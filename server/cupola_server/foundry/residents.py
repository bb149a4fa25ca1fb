"""Loading and unloading in dialect A, whose requests for it are GETs; the guard keeps web pages away from them."""

import msgspec

from cupola.errors import InvalidParameterError, ModelBusyError, ModelNotCachedError
from cupola.frontend import EngineView, Settings
from cupola_server.foundry.errors import NotDownloadedError
from cupola_server.foundry.schema import LoadQuery, UnloadQuery
from cupola_server.openai.errors import FieldError
from cupola_server.openai.exchange import Exchange

_EMPTY = ((b"content-type", b"text/plain"),)


class Residents:
    """Shows, loads and unloads models, and chooses the GPU."""

    def __init__(self, engine: EngineView, settings: Settings) -> None:
        self._engine = engine
        self._default_ttl_s = settings.models.ttl_s
        self._gpu_index = 0

    async def list(self, exchange: Exchange) -> None:
        """List the ids of the loaded models."""
        ids = [resident.info.id for resident in self._engine.residents()]
        await exchange.reply(200, msgspec.json.encode(ids))

    async def load(self, exchange: Exchange) -> None:
        """Load a model, or restart the idle clock of a loaded one."""
        query, name = exchange.query(LoadQuery), exchange.path_params["name"]
        ttl_s = self._ttl_s(query)
        try:
            await self._engine.load(name, ttl_s=ttl_s, provider=query.ep or None)
        except ModelNotCachedError as error:
            raise NotDownloadedError(model=error.model) from None
        except InvalidParameterError as error:
            raise InvalidParameterError(param="ep", detail=error.detail) from None
        await exchange.reply(200, b"", _EMPTY)

    async def unload(self, exchange: Exchange) -> None:
        """Unload a model; one that was not loaded is no error, one that nobody knows is."""
        force = exchange.query(UnloadQuery).force
        await self._engine.unload(exchange.path_params["name"], force=force, wait_s=0)
        await exchange.reply(200, b"", _EMPTY)

    async def unload_all(self, exchange: Exchange) -> None:
        """Unload all models. Those that are answering stay, unless it is forced; the first of them is named then."""
        force = exchange.query(UnloadQuery).force
        busy: list[ModelBusyError] = []
        for resident in self._engine.residents():
            try:
                await self._engine.unload(resident.info.id, force=force, wait_s=0)
            except ModelBusyError as error:
                busy.append(error)
        if busy:
            raise busy[0]
        await exchange.reply(200, b"", _EMPTY)

    async def gpu(self, exchange: Exchange) -> None:
        """Tell the index of the GPU that models are loaded on."""
        await exchange.reply(200, msgspec.json.encode(self._gpu_index))

    async def choose_gpu(self, exchange: Exchange) -> None:
        """Choose the GPU for models that are loaded from now on."""
        written = exchange.path_params["device"]
        if not (written.isascii() and written.isdigit() and len(written) < 4):
            detail = f"{written[:20]!r} is no index of a GPU; they count from 0."
            raise FieldError(param="deviceId", code="invalid_value", detail=detail)
        try:
            await self._engine.use_gpu(int(written))
        except InvalidParameterError as error:
            raise FieldError(param="deviceId", code="invalid_value", detail=error.detail) from None
        self._gpu_index = int(written)
        await exchange.reply(200, b"", _EMPTY)

    def _ttl_s(self, query: LoadQuery) -> float | None:
        ttl, timeout = query.ttl, query.timeout
        if ttl is not None and timeout is not None and ttl != timeout:
            detail = f"'ttl' is {ttl:g} and 'timeout' is {timeout:g}: they mean the same, so send one of them."
            raise FieldError(param="timeout", code="invalid_value", detail=detail)
        wanted = timeout if ttl is None else ttl
        if wanted is not None and wanted > 0:
            return wanted
        if query.unload is None:
            return None
        return self._default_ttl_s if query.unload else 0.0

"""Models in dialect A: the catalog, loading and unloading, and the choice of the GPU.

Loading and unloading are GET requests here; the guard refuses them from web pages of other sites.
"""

import msgspec

from cupola.catalog import PromptTemplate
from cupola.errors import InvalidParameterError, ModelBusyError, ModelNotCachedError
from cupola.frontend import EngineView, ModelInfo, Settings
from cupola_server.foundry.errors import NotDownloadedError
from cupola_server.foundry.schema import (
    CatalogModel,
    LoadQuery,
    Parameter,
    PromptParts,
    RecommendedSettings,
    Runtime,
    UnloadQuery,
)
from cupola_server.openai.errors import FieldError
from cupola_server.openai.exchange import Exchange

_MEBIBYTE = 1 << 20
_PROVIDER_TYPES = {"azure": "AzureFoundry", "local": "Local"}

_EMPTY = ((b"content-type", b"text/plain"),)


class CatalogListing:
    """Lists models in the format of dialect A."""

    def __init__(self, engine: EngineView) -> None:
        self._engine = engine

    async def catalog(self, exchange: Exchange) -> None:
        """List the models that this machine can run, the best variant of an alias first.

        SDKs rely on the order, and take any CUDA entry as proof that CUDA is available.
        """
        placements = {(device.provider, device.type) for device in self._engine.devices()}
        models = [
            to_catalog_model(status.info)
            for status in await self._engine.models()
            if status.loaded or (status.info.provider, status.info.device) in placements
        ]
        await exchange.reply(200, msgspec.json.encode(models))

    async def ready(self, exchange: Exchange) -> None:
        """List the ids of the models that need no download."""
        ids = [status.info.id for status in await self._engine.models() if status.cached or status.loaded]
        await exchange.reply(200, msgspec.json.encode(ids))


def to_catalog_model(info: ModelInfo) -> CatalogModel:
    """Convert a variant to a catalog entry of dialect A."""
    return CatalogModel(
        name=info.id,
        display_name=info.display_name or info.name,
        provider_type=_PROVIDER_TYPES.get(info.source, info.source),
        uri=info.uri or f"{info.source}://{info.name}",
        version=str(info.version),
        model_type=info.model_type,
        prompt_template=_prompt_parts(info.prompt_template),
        publisher=info.publisher,
        task=info.task,
        test_model=info.is_test,
        runtime=Runtime(device_type=info.device, execution_provider=info.provider),
        file_size_mb=info.size_bytes // _MEBIBYTE,
        model_settings=RecommendedSettings(
            parameters=tuple(Parameter(name=name, value=value) for name, value in info.model_settings)
        ),
        alias=info.alias,
        supports_tool_calling=info.supports_tool_calling,
        license=info.license,
        license_description=info.license_description,
        parent_model_uri=info.parent_uri,
        max_output_tokens=info.max_output_tokens,
        min_fl_version=info.min_version or None,
    )


class Residents:
    """Lists, loads and unloads models, and selects the GPU."""

    def __init__(self, engine: EngineView, settings: Settings) -> None:
        self._engine = engine
        self._default_ttl_s = settings.models.ttl_s
        self._gpu_index = 0

    async def list(self, exchange: Exchange) -> None:
        """List the ids of the loaded models."""
        ids = [resident.info.id for resident in self._engine.residents()]
        await exchange.reply(200, msgspec.json.encode(ids))

    async def load(self, exchange: Exchange) -> None:
        """Load a model, or reset the idle timer of a loaded one."""
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
        """Unload a model. It is an error if the model is unknown, but not if it is not loaded."""
        force = exchange.query(UnloadQuery).force
        await self._engine.unload(exchange.path_params["name"], force=force, wait_s=0)
        await exchange.reply(200, b"", _EMPTY)

    async def unload_all(self, exchange: Exchange) -> None:
        """Unload all models. Unless forced, busy models stay loaded and the error names the first of them."""
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
        """Send the index of the selected GPU."""
        await exchange.reply(200, msgspec.json.encode(self._gpu_index))

    async def choose_gpu(self, exchange: Exchange) -> None:
        """Select the GPU for models that are loaded from now on."""
        written = exchange.path_params["device"]
        if not (written.isascii() and written.isdigit() and len(written) < 4):
            detail = f"{written[:20]!r} is not a GPU index. Indices start at 0."
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
            detail = f"'ttl' is {ttl:g} and 'timeout' is {timeout:g}: both set the idle time, so send only one of them."
            raise FieldError(param="timeout", code="invalid_value", detail=detail)
        wanted = timeout if ttl is None else ttl
        if wanted is not None and wanted > 0:
            return wanted
        if query.unload is None:
            return None
        return self._default_ttl_s if query.unload else 0.0


def _prompt_parts(template: PromptTemplate | None) -> PromptParts | None:
    if template is None:
        return None
    return PromptParts(system=template.system, user=template.user, assistant=template.assistant, prompt=template.prompt)

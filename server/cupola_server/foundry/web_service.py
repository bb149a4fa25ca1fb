"""The web service of the SDKs 1.x and 2.x: /models, and the same models and OpenAI API under /catalogs/local."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from cupola.errors import LoadError, ModelNotCachedError, ModelNotFoundError
from cupola.frontend import (
    CachedModel,
    ChatPrompt,
    Device,
    DownloadStatus,
    Embeddings,
    EmbedRequest,
    EngineView,
    GenerateRequest,
    Generation,
    ModelInfo,
    ModelStatus,
    Progress,
    ResidentStatus,
    Settings,
    TextPrompt,
)
from cupola_server.foundry.errors import LoadFailedError, NoMatchError, NotCachedError
from cupola_server.foundry.schema import Loaded, Unloaded
from cupola_server.openai.app import build_app
from cupola_server.openai.exchange import Exchange
from cupola_server.openai.tools import TOOL_FORMATS
from cupola_server.openapi import Api, Operation

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

LOCAL_PREFIX = "/catalogs/local"
_LOCAL_SOURCE = "local"


class WebServiceModels:
    """Lists, loads and unloads models by any name. The original accepts only the alias or only the id."""

    def __init__(self, engine: EngineView) -> None:
        self._engine = engine

    async def list(self, exchange: Exchange) -> None:
        """List the ids of the loaded models."""
        ids = [resident.info.id for resident in self._engine.residents()]
        await exchange.reply(200, msgspec.json.encode(ids))

    async def load(self, exchange: Exchange) -> None:
        """Load a model."""
        info = await self._resolve(exchange)
        was_loaded = any(resident.info.id == info.id for resident in self._engine.residents())
        try:
            await self._engine.load(info.id)
        except ModelNotCachedError:
            raise NotCachedError from None
        except LoadError as error:
            raise LoadFailedError(model=error.model, detail=error.detail) from None
        await exchange.reply(200, msgspec.json.encode(Loaded("already_loaded" if was_loaded else "loaded")))

    async def unload(self, exchange: Exchange) -> None:
        """Unload a model unless it is running turns."""
        info = await self._resolve(exchange)
        done = await self._engine.unload(info.id, wait_s=0)
        await exchange.reply(200, msgspec.json.encode(Unloaded("unloaded" if done else "not_loaded")))

    async def _resolve(self, exchange: Exchange) -> ModelInfo:
        name = exchange.path_params["name"]
        try:
            return (await self._engine.resolve(name)).info
        except ModelNotFoundError:
            raise NoMatchError(model=name[:80]) from None


def openai_operations(engine: "LocalModels", settings: Settings) -> Iterator[Operation]:
    """Return the operations of OpenAI's API under /catalogs/local."""
    api = build_app(engine, settings, TOOL_FORMATS)
    assert isinstance(api, Api)
    for operation in api.operations:
        if operation.path.startswith("/v1/"):
            yield replace(operation, path=f"{LOCAL_PREFIX}{operation.path}")


class LocalModels:
    """An `EngineView` that is restricted to the models imported on this machine."""

    def __init__(self, engine: EngineView) -> None:
        self._engine = engine

    @property
    def cache_location(self) -> Path:
        """The folder for new models."""
        return self._engine.cache_location

    def devices(self) -> Sequence[Device]:
        """List the devices that can run models."""
        return self._engine.devices()

    async def use_gpu(self, index: int) -> None:
        """Load models on the GPU with this index from now on."""
        await self._engine.use_gpu(index)

    async def models(self) -> Sequence[ModelStatus]:
        """List the models."""
        return [status for status in await self._engine.models() if status.info.source == _LOCAL_SOURCE]

    async def resolve(self, name: str) -> ModelStatus:
        """Look a model up by id, id without version, or alias, whatever the case."""
        models, wanted = await self.models(), name.strip().lower()
        for key in ("id", "name", "alias"):
            for status in models:
                if str(getattr(status.info, key)).lower() == wanted:
                    return status
        raise ModelNotFoundError(model=name)

    @asynccontextmanager
    async def _run_turn(self, request: GenerateRequest) -> "AsyncIterator[Generation]":
        model = await self._resolve_id(request.model)
        async with self._engine.generate(msgspec.structs.replace(request, model=model)) as generation:
            yield generation

    def generate(self, request: GenerateRequest) -> AbstractAsyncContextManager[Generation]:
        """Run a turn."""
        return self._run_turn(request)

    async def tokenize(self, name: str, prompt: ChatPrompt | TextPrompt) -> Sequence[int]:
        """Tokenize a prompt."""
        return await self._engine.tokenize(await self._resolve_id(name), prompt)

    async def detokenize(self, name: str, tokens: Sequence[int]) -> str:
        """Decode tokens to text."""
        return await self._engine.detokenize(await self._resolve_id(name), tokens)

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """Compute embedding vectors."""
        return await self._engine.embed(msgspec.structs.replace(request, model=await self._resolve_id(request.model)))

    async def load(
        self,
        name: str,
        *,
        ttl_s: float | None = None,
        provider: str | None = None,
        device: str | None = None,
        use_fallback: bool = False,
    ) -> ResidentStatus:
        """Load a model."""
        model_id = await self._resolve_id(name)
        return await self._engine.load(
            model_id, ttl_s=ttl_s, provider=provider, device=device, use_fallback=use_fallback
        )

    async def register(self, service: str, model: str, base_url: str) -> ModelStatus:
        """Register an external model, which is not a local one."""
        return await self._engine.register(service, model, base_url)

    async def unload(self, name: str, *, force: bool = False, wait_s: float | None = None) -> bool:
        """Unload a model."""
        return await self._engine.unload(await self._resolve_id(name), force=force, wait_s=wait_s)

    def residents(self) -> Sequence[ResidentStatus]:
        """List the loaded models."""
        return [resident for resident in self._engine.residents() if resident.info.source == _LOCAL_SOURCE]

    async def download(self, name: str, progress: Progress | None = None) -> CachedModel:
        """Return a model, which is always cached."""
        return await self._engine.download(await self._resolve_id(name), progress)

    async def start_download(self, name: str) -> DownloadStatus:
        """Return immediately, because local models are always cached."""
        return await self._engine.start_download(await self._resolve_id(name))

    def cancel_download(self, model_id: str) -> bool:
        """Cancel a download."""
        return self._engine.cancel_download(model_id)

    def downloads(self) -> Sequence[DownloadStatus]:
        """List the downloads."""
        return [status for status in self._engine.downloads() if status.info.source == _LOCAL_SOURCE]

    async def _resolve_id(self, name: str) -> str:
        return (await self.resolve(name)).info.id

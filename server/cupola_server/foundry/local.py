"""/catalogs/local: the web service once more, for the models that came from this machine and no catalog.

Microsoft's keeps the two apart: a local model is unknown outside of /catalogs/local. Here they are known on both sides.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from cupola.errors import ModelNotFoundError
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
    ModelStatus,
    Progress,
    ResidentStatus,
    Settings,
    TextPrompt,
)
from cupola_server.openai.app import build_app
from cupola_server.openai.tools import TOOL_FORMATS
from cupola_server.openapi import Api, Operation

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PREFIX = "/catalogs/local"

_LOCAL = "local"


def openai_operations(engine: "LocalModels", settings: Settings) -> Iterator[Operation]:
    """Return OpenAI's API over the models of this machine."""
    api = build_app(engine, settings, TOOL_FORMATS)
    assert isinstance(api, Api)
    for operation in api.operations:
        if operation.path.startswith("/v1/"):
            yield replace(operation, path=f"{PREFIX}{operation.path}")


class LocalModels:
    """The engine, as if there were only the models that came from this machine (`EngineView`)."""

    def __init__(self, engine: EngineView) -> None:
        self._engine = engine

    @property
    def cache_location(self) -> Path:
        """The folder that new models go to."""
        return self._engine.cache_location

    def devices(self) -> Sequence[Device]:
        """List what models can be placed on."""
        return self._engine.devices()

    async def use_gpu(self, index: int) -> None:
        """Load models on the GPU of this index from now on."""
        await self._engine.use_gpu(index)

    async def models(self) -> Sequence[ModelStatus]:
        """List the models."""
        return [status for status in await self._engine.models() if status.info.source == _LOCAL]

    async def resolve(self, name: str) -> ModelStatus:
        """Look a model up by id, id without version, or alias, whatever the case."""
        models, wanted = await self.models(), name.strip().lower()
        for key in ("id", "name", "alias"):
            for status in models:
                if str(getattr(status.info, key)).lower() == wanted:
                    return status
        raise ModelNotFoundError(model=name)

    @asynccontextmanager
    async def _generated(self, request: GenerateRequest) -> "AsyncIterator[Generation]":
        model = await self._id(request.model)
        async with self._engine.generate(msgspec.structs.replace(request, model=model)) as generation:
            yield generation

    def generate(self, request: GenerateRequest) -> AbstractAsyncContextManager[Generation]:
        """Run a turn."""
        return self._generated(request)

    async def tokenize(self, name: str, prompt: ChatPrompt | TextPrompt) -> Sequence[int]:
        """Return the tokens of a prompt."""
        return await self._engine.tokenize(await self._id(name), prompt)

    async def detokenize(self, name: str, tokens: Sequence[int]) -> str:
        """Return the text of tokens."""
        return await self._engine.detokenize(await self._id(name), tokens)

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """Turn texts into vectors."""
        return await self._engine.embed(msgspec.structs.replace(request, model=await self._id(request.model)))

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
        model_id = await self._id(name)
        return await self._engine.load(
            model_id, ttl_s=ttl_s, provider=provider, device=device, use_fallback=use_fallback
        )

    async def register(self, service: str, model: str, base_url: str) -> ModelStatus:
        """Offer the model of a service elsewhere, which is then not among these."""
        return await self._engine.register(service, model, base_url)

    async def unload(self, name: str, *, force: bool = False, wait_s: float | None = None) -> bool:
        """Unload a model."""
        return await self._engine.unload(await self._id(name), force=force, wait_s=wait_s)

    def residents(self) -> Sequence[ResidentStatus]:
        """List the loaded models."""
        return [resident for resident in self._engine.residents() if resident.info.source == _LOCAL]

    async def download(self, name: str, progress: Progress | None = None) -> CachedModel:
        """Return a model, which is here already."""
        return await self._engine.download(await self._id(name), progress)

    async def start_download(self, name: str) -> DownloadStatus:
        """Return at once, for the model is here already."""
        return await self._engine.start_download(await self._id(name))

    def cancel_download(self, model_id: str) -> bool:
        """End a download."""
        return self._engine.cancel_download(model_id)

    def downloads(self) -> Sequence[DownloadStatus]:
        """List the downloads."""
        return [status for status in self._engine.downloads() if status.info.source == _LOCAL]

    async def _id(self, name: str) -> str:
        return (await self.resolve(name)).info.id

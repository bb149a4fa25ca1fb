"""The engine: combines catalogs, caches, placement, residency and external services."""

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import anyio
import msgspec

from cupola.contracts import (
    CachedModel,
    CacheStore,
    Device,
    DownloadStatus,
    Generation,
    ImportOptions,
    ModelInfo,
    ModelStatus,
    Placement,
    Progress,
    ProgressEvent,
    ResidentStatus,
)
from cupola.downloads import Acquirer, DownloadJobs, HttpDownloader, silence_http_logs
from cupola.engine.generation import RunningTurn
from cupola.engine.placer import Placer
from cupola.environments import Inventory
from cupola.errors import (
    CacheError,
    LoadError,
    MemoryBudgetError,
    ModelFormatError,
    ModelNotCachedError,
    ModelNotFoundError,
    NoProviderError,
)
from cupola.external.models import ExternalModels, ExternalRouter
from cupola.messages import ChatPrompt, Embeddings, EmbedRequest, GenerateRequest, TextPrompt
from cupola.model_index import Listing, ModelEntry, ModelIndex
from cupola.placement import NO_PREFERENCE, PlacementRequest
from cupola.plugins import PluginSet, ProviderEntry, load_plugins
from cupola.protocol import DetokenizeTokens, EmbedTexts, Load, Text, TokenizeText, Tokens
from cupola.residency import Residency, ResidencyLimits
from cupola.settings import Settings
from cupola.tuning import TUNED, Goal, Trial, Tuner, Tuning
from cupola.worker.process import Worker, WorkerSpec

logger = logging.getLogger(__name__)

_CANNOT_RUN = (NoProviderError, LoadError, MemoryBudgetError)
"""The errors for which the fallback model takes over. A model that is merely not downloaded is not among them."""


class Engine:
    """The object that front-ends and the command line use (`EngineView`). Create it with `open_engine`."""

    def __init__(
        self,
        settings: Settings,
        plugins: PluginSet,
        residency: Residency,
        jobs: DownloadJobs,
        external: ExternalModels,
    ) -> None:
        self._settings = settings
        self._plugins = plugins
        self._residency = residency
        self.inventory = Inventory(plugins.providers, settings)
        self._catalog = ModelIndex(plugins.catalog_sources, plugins.cache_stores, self.inventory.devices())
        self._placer = Placer(settings, plugins, self._catalog, self.inventory, residency.loads)
        self._external = ExternalRouter(external, residency.find, self._catalog.variants, settings.models.fallback)
        self._acquirer = Acquirer(jobs, HttpDownloader(settings.downloads), self._store, plugins.observe)

    @property
    def cache_location(self) -> Path:
        """The folder for new models."""
        return self._store().location

    @property
    def cache(self) -> CacheStore:
        """The store for new models."""
        return self._store()

    async def holder(self, model_id: str) -> CacheStore:
        """Return the store that holds the model with this exact id, or the store for new models if none does."""
        holding = [store for store in self._plugins.cache_stores if await store.find(model_id)]
        return holding[0] if holding else self._store()

    def folders(self) -> dict[str, Path]:
        """Return the folders that the engine writes, by a label for their content."""
        return {"Models": self.cache_location, "Environments": self._settings.environments_dir}

    def devices(self) -> Sequence[Device]:
        """List the devices that can run models, in order of preference, with their free memory."""
        return self._placer.devices()

    async def use_gpu(self, index: int) -> None:
        """Load models that run on a GPU on the one with this index from now on.

        Raises:
            NoGpuError: No execution provider on this machine has a GPU.
            InvalidParameterError: No execution provider has a GPU with this index.
        """
        await self._placer.refresh_devices()
        self._placer.choose_gpu(index)

    async def models(self) -> Sequence[ModelStatus]:
        """List the models of all catalogs and caches, the best variant of an alias first."""
        await self._placer.refresh_devices()
        here = [self._status(entry) for entry in await self._catalog.entries()]
        return [*here, *(model.status for model in self._external.models)]

    def listings(self) -> Sequence[Listing]:
        """Return the age or the problem of every catalog source's last listing."""
        return self._catalog.listings()

    async def cached(self) -> Sequence[CachedModel]:
        """List the cached models."""
        return [entry.cached for entry in await self._catalog.entries() if entry.cached]

    async def resolve(self, name: str) -> ModelStatus:
        """Find a model by id, id without version, or alias: the variant that would run here, else the first one."""
        if external := await self._external.find(name):
            return external.status
        entries, place = await self._placer.candidates(name)
        return self._status(next((e for e in entries if place and e.info.id == place.variant.id), entries[0]))

    async def variants(self, name: str) -> Sequence[ModelStatus]:
        """List the variants that a name matches, best first; more than one only for an alias.

        Raises:
            ModelNotFoundError: Nothing matches the name.
        """
        return [self._status(entry) for entry in await self._catalog.variants(name)]

    async def download(self, name: str, progress: Progress | None = None, *, force: bool = False) -> CachedModel:
        """Download a model; returns immediately if it is cached.

        Args:
            name: Id, id without version, or alias.
            progress: Called as data arrives.
            force: Download it even if it is cached. The cached copy stays until the new one is complete.

        Raises:
            ModelNotFoundError, DownloadError, CacheError, ModelFormatError: The cache holds no incomplete model.
            RequestError: It is an external model.
        """
        await self._external.refuse(name)
        entry, _ = await self._placer.choose(name)
        return await self._acquirer.acquire(entry, progress or _ignore, force=force)

    async def start_download(self, name: str) -> DownloadStatus:
        """Start downloading a model in the background, and return immediately."""
        await self._external.refuse(name)
        entry, _ = await self._placer.choose(name)
        if entry.cached:
            return DownloadStatus(info=entry.info, state="done", progress=ProgressEvent("download", 0, 0))
        return await self._acquirer.start(entry)

    def cancel_download(self, model_id: str) -> bool:
        """Cancel a running download; False if there is none for this id."""
        return self._acquirer.jobs.cancel(model_id)

    def downloads(self) -> Sequence[DownloadStatus]:
        """List the running downloads, then the most recent ones that ended."""
        return self._acquirer.jobs.statuses()

    async def import_model(self, path: Path, options: ImportOptions, progress: Progress | None = None) -> CachedModel:
        """Import a local file or folder into the cache as a model.

        Raises:
            ModelFormatError: No source supports its format, or it is damaged.
            RequestError: A model with that name exists.
            CacheError: The cache cannot be written.
        """
        for source in self._plugins.catalog_sources:
            info = await source.claim(path, options)
            if info is None:
                continue
            await self._catalog.ensure_available(info.id)
            return await self._acquirer.acquire(ModelEntry(info, source, None), progress or _ignore)
        detail = "it is neither a folder with a genai_config.json nor a file in a supported format, such as GGUF"
        raise ModelFormatError(path=str(path), detail=detail)

    async def remove(self, name: str) -> bool:
        """Unload a model and delete its files; False if there were none. Damaged models are found by their id.

        Raises:
            ModelBusyError: The model is running turns.
        """
        try:
            model_id = (await self.resolve(name)).info.id
        except ModelNotFoundError:  # damaged models are not listed
            model_id = name
        await self._residency.unload(model_id, wait_s=0)
        return any([await store.remove(model_id) for store in self._plugins.cache_stores])

    async def tune(
        self, name: str, goal: Goal, *, max_divergence: float, progress: Progress, on_trial: Callable[[Trial], None]
    ) -> Tuning:
        """Find the weight layout with which a model runs best on this machine, and store it; see `cupola.tuning`."""
        entry, place = await self._placer.choose(name)
        if entry.info.source == TUNED:
            entry, place = await self._placer.choose(entry.info.parent)
        source = await self._acquirer.acquire(entry, progress)
        tuner = Tuner(source, lambda model: self._spec(model, place), self._plugins.converters, self._store())
        return await tuner.run(goal, max_divergence, progress, on_trial)

    async def load(
        self,
        name: str,
        *,
        ttl_s: float | None = None,
        provider: str | None = None,
        device: str | None = None,
        use_fallback: bool = False,
    ) -> ResidentStatus:
        """Load a model, or reset the idle timer of a loaded one. A requested provider may cause a reload."""
        if external := await self._external.find(name):
            return external.resident
        requested = self._placer.parse_request(provider, device) if provider or device else NO_PREFERENCE
        try:
            info, spec = await self._prepare(name, requested)
            return await self._residency.load(info, spec, ttl_s)
        except _CANNOT_RUN as error:
            if not use_fallback:
                raise
            return await self.load(self._external.fallback(name, error), ttl_s=ttl_s)

    async def register(self, service: str, model: str, base_url: str) -> ModelStatus:
        """Add a model of an external service, until the process ends."""
        return self._external.models.register(service, model, base_url).status

    async def unload(self, name: str, *, force: bool = False, wait_s: float | None = None) -> bool:
        """Unload a model; False if it was not loaded."""
        if await self._external.find(name):
            return False
        entries = await self._catalog.variants(name)
        results = [await self._residency.unload(e.info.id, force=force, wait_s=wait_s) for e in entries]
        return any(results)

    def residents(self) -> Sequence[ResidentStatus]:
        """List the loaded models, most recently used first."""
        return self._residency.statuses()

    @asynccontextmanager
    async def generate(self, request: GenerateRequest) -> AsyncIterator[Generation]:
        """Run a turn. Entering waits until the prompt is accepted; leaving early cancels the turn within one step."""
        arrived = anyio.current_time()
        async with AsyncExitStack() as stack:
            turn = await self._start(request, stack)
            try:
                yield turn
            finally:
                self._plugins.observe(turn.ended(arrived))

    async def _start(self, request: GenerateRequest, stack: AsyncExitStack) -> RunningTurn:
        """Start a turn on its model, or on the fallback model if this machine cannot run it. The stack ends it."""
        if external := await self._external.find(request.model):
            answer = await stack.enter_async_context(external.answer(request))
            return RunningTurn(external.info, external.report, answer.get)
        try:
            requested = self._placer.parse_request(request.provider) if request.provider else NO_PREFERENCE
            info, spec = await self._prepare(request.model, requested)
            worker = await stack.enter_async_context(self._residency.use(info, spec, request.ttl_s))
        except _CANNOT_RUN as error:
            fallback = self._external.fallback(request.model, error)
            return await self._start(msgspec.structs.replace(request, model=fallback, provider=None), stack)
        started = await worker.submit(request)
        stack.push_async_callback(_cancel, worker, started.id)
        return RunningTurn(info, worker.report, started.mailbox.get, started.prompt_tokens)

    async def tokenize(self, name: str, prompt: ChatPrompt | TextPrompt) -> Sequence[int]:
        """Tokenize a prompt. Loads the model if needed."""
        answer = await self._ask(name, TokenizeText(prompt), None)
        assert isinstance(answer, Tokens)
        return answer.tokens

    async def detokenize(self, name: str, tokens: Sequence[int]) -> str:
        """Decode tokens to text. Loads the model if needed."""
        answer = await self._ask(name, DetokenizeTokens(tuple(tokens)), None)
        assert isinstance(answer, Text)
        return answer.text

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """Compute embedding vectors. Loads the model if needed."""
        if external := await self._external.find(request.model):
            return await external.embed(request)
        question = EmbedTexts(request.inputs, request.dimensions)
        answer = await self._ask(request.model, question, request.ttl_s)
        assert isinstance(answer, Embeddings)
        return answer

    async def _ask(
        self, name: str, question: TokenizeText | DetokenizeTokens | EmbedTexts, ttl_s: float | None
    ) -> Tokens | Text | Embeddings:
        await self._external.refuse(name)
        info, spec = await self._prepare(name)
        async with self._residency.use(info, spec, ttl_s) as worker:
            return await worker.ask(question)

    async def _prepare(self, name: str, requested: PlacementRequest = NO_PREFERENCE) -> tuple[ModelInfo, WorkerSpec]:
        """Choose variant and device, make sure that the files are cached, and return how to start the worker.

        For a loaded model this uses neither the catalogs nor the disk.
        """
        if (loaded := self._residency.find(name)) and requested.admits(loaded[1].load.provider, loaded[1].load.device):
            return loaded
        entry, place = await self._placer.choose(name, requested)
        if loaded := self._residency.find(entry.info.id):
            if requested.admits(loaded[1].load.provider, loaded[1].load.device):
                return loaded
            await self._residency.unload(entry.info.id, wait_s=0)
        if entry.cached is None and not self._settings.models.auto_download:
            raise ModelNotCachedError(model=name)
        cached = await self._acquirer.acquire(entry, _ignore)
        return cached.info, self._spec(cached, place)

    def _spec(self, model: CachedModel, place: Placement) -> WorkerSpec:
        entry = self._provider(place.device.provider)
        if not self.inventory.is_ready(entry):
            raise self._placer.no_provider_error(model.info.id, [model.info], PlacementRequest(entry.provider.name))
        worker = self._settings.worker
        return WorkerSpec(
            load=Load(
                plugin=entry.reference,
                provider=entry.provider.name,
                model=model.info.id,
                path=str(model.path),
                device=place.device.type,
                device_index=place.device.index,
                settings=msgspec.to_builtins(self._settings.for_workers()),
            ),
            environment=entry.provider.environment(entry.options),
            without=self._external.models.key_variables,
            interpreter=self.inventory.interpreter(entry),
            load_timeout_s=worker.load_timeout_s,
            step_timeout_s=worker.step_timeout_s,
            queue_limit=self._settings.models.queue_limit,
        )

    def _store(self) -> CacheStore:
        if not self._plugins.cache_stores:
            raise CacheError(path="(none)", detail="no plugin provides a cache store; see `cupola plugins`")
        return self._plugins.cache_stores[0]

    def _provider(self, name: str) -> ProviderEntry:
        return next(entry for entry in self._plugins.providers if entry.provider.name == name)

    def _status(self, entry: ModelEntry) -> ModelStatus:
        loaded = any(resident.info.id == entry.info.id for resident in self._residency.statuses())
        return ModelStatus(entry.info, cached=entry.cached is not None, loaded=loaded)


@asynccontextmanager
async def open_engine(settings: Settings, plugins: PluginSet | None = None) -> AsyncIterator[Engine]:
    """Open an engine. Leaving the context stops all workers.

    Args:
        settings: The settings.
        plugins: The plugins to use; None discovers the installed ones.

    Raises:
        PluginConflictError, PluginsFailedError, SettingsError: The plugins or their options conflict or failed.
    """
    plugins = plugins or load_plugins(settings)
    plugins.ensure_usable()
    silence_http_logs()
    limits = ResidencyLimits.from_settings(settings.models, settings.worker)
    async with (
        ExternalModels(settings.external) as external,
        DownloadJobs() as jobs,
        Residency(limits, plugins.observe) as residency,
    ):
        yield Engine(settings, plugins, residency, jobs, external)


async def _cancel(worker: Worker, turn: int) -> None:
    with anyio.CancelScope(shield=True):
        await worker.cancel(turn)


def _ignore(event: ProgressEvent) -> None:
    """Discard progress."""

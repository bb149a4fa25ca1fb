"""The engine: from a request to a running turn. It knows catalogs, caches, placement and residency, and joins them."""

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import anyio
import msgspec

from cupola.catalog import Catalog, Entry, Listing
from cupola.choosing import Chooser
from cupola.contracts import (
    CachedModel,
    CacheStore,
    Device,
    DownloadStatus,
    Generation,
    ImportWishes,
    ModelInfo,
    ModelStatus,
    Placement,
    Progress,
    ProgressEvent,
    ResidentStatus,
)
from cupola.downloads import Bringing, DownloadJobs, HttpDownloader, keep_addresses_out_of_logs
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
from cupola.external.elsewhere import Elsewhere
from cupola.external.models import ExternalModels
from cupola.messages import (
    ChatPrompt,
    DetokenizeTokens,
    Embeddings,
    EmbedRequest,
    EmbedTexts,
    GenerateRequest,
    Load,
    Text,
    TextPrompt,
    TokenizeText,
    Tokens,
)
from cupola.placement import ANYWHERE, Wish
from cupola.plugins import PluginSet, ProviderEntry, load_plugins
from cupola.residency import Residency, ResidencyLimits
from cupola.settings import Settings
from cupola.tuning import TUNED, Goal, Trial, Tuner, Tuning
from cupola.turns import Turn
from cupola.worker.process import Worker, WorkerSpec

logger = logging.getLogger(__name__)

_CANNOT_RUN = (NoProviderError, LoadError, MemoryBudgetError)
"""What a fallback is for. A model that only has to be downloaded is no such case."""


class Engine:
    """The one object that front-ends and the command line work with (`EngineView`). Made by `open_engine`."""

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
        self._catalog = Catalog(plugins.catalog_sources, plugins.cache_stores, self.inventory.devices())
        self._chooser = Chooser(settings, plugins, self._catalog, self.inventory, residency.loads)
        self._external = Elsewhere(external, residency.find, self._catalog.variants, settings.models.fallback)
        self._bringing = Bringing(jobs, HttpDownloader(settings.downloads), self._store, plugins.observe)

    @property
    def cache_location(self) -> Path:
        """The folder that new models go to."""
        return self._store().location

    @property
    def cache(self) -> CacheStore:
        """The store that new models go to."""
        return self._store()

    async def holder(self, model_id: str) -> CacheStore:
        """The store that holds a model, by its exact id; the one for new models if none does."""
        holding = [store for store in self._plugins.cache_stores if await store.find(model_id)]
        return holding[0] if holding else self._store()

    def folders(self) -> dict[str, Path]:
        """Name the folders that are written, by what lies there."""
        return {"Models": self.cache_location, "Environments": self._settings.environments_dir}

    def devices(self) -> Sequence[Device]:
        """List what models can be placed on, in order of preference, with the memory that is free there."""
        return self._chooser.devices()

    async def use_gpu(self, index: int) -> None:
        """Load models on the GPU of this index from now on, where they run on one.

        Raises:
            NoGpuError: Nothing here runs models on GPUs.
            InvalidParameterError: No provider has a GPU of this index.
        """
        await self._chooser.know_devices()
        self._chooser.choose_gpu(index)

    async def models(self) -> Sequence[ModelStatus]:
        """List every model of every catalog and cache, best variant of an alias first."""
        await self._chooser.know_devices()
        here = [self._status(entry) for entry in await self._catalog.entries()]
        return [*here, *(model.status for model in self._external.models)]

    def listings(self) -> Sequence[Listing]:
        """Say of every catalog source how old its last listing is, or why there is none."""
        return self._catalog.listings()

    async def cached(self) -> Sequence[CachedModel]:
        """List the models on this machine."""
        return [entry.cached for entry in await self._catalog.entries() if entry.cached]

    async def resolve(self, name: str) -> ModelStatus:
        """Look a model up by id, id without version, or alias: the variant that would run here, else the first."""
        if elsewhere := await self._external.find(name):
            return elsewhere.status
        entries, place = await self._chooser.candidates(name)
        return self._status(next((e for e in entries if place and e.info.id == place.variant.id), entries[0]))

    async def variants(self, name: str) -> Sequence[ModelStatus]:
        """List what a name can mean, best first; more than one only for an alias.

        Raises:
            ModelNotFoundError: Nothing.
        """
        return [self._status(entry) for entry in await self._catalog.variants(name)]

    async def download(self, name: str, progress: Progress | None = None, *, again: bool = False) -> CachedModel:
        """Bring a model into the cache; returns at once if it is there already.

        If `again`, it is brought also then. The one that is there stays until the new one is whole.

        Raises:
            ModelNotFoundError, DownloadError, CacheError, ModelFormatError: Nothing half-done is left in the cache.
            RequestError: It is a model elsewhere.
        """
        await self._external.refuse(name)
        entry, _ = await self._chooser.choose(name)
        return await self._bringing.bring(entry, progress or _ignore, again=again)

    async def start_download(self, name: str) -> DownloadStatus:
        """Begin to bring a model into the cache, and return at once."""
        await self._external.refuse(name)
        entry, _ = await self._chooser.choose(name)
        if entry.cached:
            return DownloadStatus(info=entry.info, state="done", progress=ProgressEvent("download", 0, 0))
        return await self._bringing.start(entry)

    def cancel_download(self, model_id: str) -> bool:
        """End a download; False if none of that id is under way."""
        return self._bringing.jobs.cancel(model_id)

    def downloads(self) -> Sequence[DownloadStatus]:
        """List the downloads under way, then the last ones that ended."""
        return self._bringing.jobs.statuses()

    async def import_model(self, path: Path, wishes: ImportWishes, progress: Progress | None = None) -> CachedModel:
        """Make a file or folder of this machine a model of the cache.

        Raises:
            ModelFormatError: No source knows what to do with it, or it is damaged.
            RequestError: A model of that name is there already.
            CacheError: The cache cannot be written.
        """
        for source in self._plugins.catalog_sources:
            info = await source.offer(path, wishes)
            if info is None:
                continue
            await self._catalog.refuse_taken(info.id)
            return await self._bringing.bring(Entry(info, source, None), progress or _ignore)
        detail = "is neither a folder with a genai_config.json nor a file that an importer knows, such as GGUF"
        raise ModelFormatError(path=str(path), detail=detail)

    async def remove(self, name: str) -> bool:
        """Unload a model and delete its files, broken ones too if the name is an id; False if there were none.

        Raises:
            ModelBusyError: It is answering.
        """
        try:
            model_id = (await self.resolve(name)).info.id
        except ModelNotFoundError:  # what is broken is in no listing
            model_id = name
        await self._residency.unload(model_id, wait_s=0)
        return any([await store.remove(model_id) for store in self._plugins.cache_stores])

    async def tune(
        self, name: str, goal: Goal, *, max_divergence: float, progress: Progress, told: Callable[[Trial], None]
    ) -> Tuning:
        """Find the layout in which a model runs best here, and keep it; see `cupola.tuning`."""
        entry, place = await self._chooser.choose(name)
        if entry.info.source == TUNED:
            entry, place = await self._chooser.choose(entry.info.parent)
        source = await self._bringing.bring(entry, progress)
        tuner = Tuner(source, lambda model: self._spec(model, place), self._plugins.converters, self._store())
        return await tuner.run(goal, max_divergence, progress, told)

    async def load(
        self,
        name: str,
        *,
        ttl_s: float | None = None,
        provider: str | None = None,
        device: str | None = None,
        or_fallback: bool = False,
    ) -> ResidentStatus:
        """Load a model, or restart the idle clock of a loaded one; one that is loaded in another place moves."""
        if elsewhere := await self._external.find(name):
            return elsewhere.resident
        wish = self._chooser.wish(provider, device) if provider or device else ANYWHERE
        try:
            info, spec = await self._prepare(name, wish)
            return await self._residency.load(info, spec, ttl_s)
        except _CANNOT_RUN as error:
            if not or_fallback:
                raise
            return await self.load(self._external.stand_in(name, error), ttl_s=ttl_s)

    async def register(self, service: str, model: str, base_url: str) -> ModelStatus:
        """Offer the model of a service elsewhere, until the process ends."""
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
        """Run a turn. Entering waits until the prompt is accepted; leaving early cancels it within a step."""
        arrived = anyio.current_time()
        async with AsyncExitStack() as stack:
            turn = await self._begun(request, stack)
            try:
                yield turn
            finally:
                self._plugins.observe(turn.ended(arrived))

    async def _begun(self, request: GenerateRequest, stack: AsyncExitStack) -> Turn:
        """Begin a turn where its model runs, or at the fallback if that is not here. The stack ends it."""
        if elsewhere := await self._external.find(request.model):
            answer = await stack.enter_async_context(elsewhere.answer(request))
            return Turn(elsewhere.info, elsewhere.report, answer.get)
        try:
            wish = self._chooser.wish(request.provider) if request.provider else ANYWHERE
            info, spec = await self._prepare(request.model, wish)
            worker = await stack.enter_async_context(self._residency.use(info, spec, request.ttl_s))
        except _CANNOT_RUN as error:
            stand_in = self._external.stand_in(request.model, error)
            return await self._begun(msgspec.structs.replace(request, model=stand_in, provider=None), stack)
        started = await worker.submit(request)
        stack.push_async_callback(_cancelled, worker, started.id)
        return Turn(info, worker.report, started.mailbox.get, started.prompt_tokens)

    async def tokenize(self, name: str, prompt: ChatPrompt | TextPrompt) -> Sequence[int]:
        """Return the tokens of a prompt; loads the model."""
        answer = await self._ask(name, TokenizeText(prompt), None)
        assert isinstance(answer, Tokens)
        return answer.tokens

    async def detokenize(self, name: str, tokens: Sequence[int]) -> str:
        """Return the text of tokens; loads the model."""
        answer = await self._ask(name, DetokenizeTokens(tuple(tokens)), None)
        assert isinstance(answer, Text)
        return answer.text

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """Turn texts into vectors."""
        if elsewhere := await self._external.find(request.model):
            return await elsewhere.embed(request)
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

    async def _prepare(self, name: str, wish: Wish = ANYWHERE) -> tuple[ModelInfo, WorkerSpec]:
        """Decide variant and device, see that the files are here, and say how to start the worker.

        A loaded model that goes by that name is taken as it is: no catalog and no disk is asked on the way to it.
        """
        if (loaded := self._residency.find(name)) and wish.admits(loaded[1].load.provider, loaded[1].load.device):
            return loaded
        entry, place = await self._chooser.choose(name, wish)
        if loaded := self._residency.find(entry.info.id):
            if wish.admits(loaded[1].load.provider, loaded[1].load.device):
                return loaded
            await self._residency.unload(entry.info.id, wait_s=0)
        if entry.cached is None and not self._settings.models.auto_download:
            raise ModelNotCachedError(model=name)
        cached = await self._bringing.bring(entry, _ignore)
        return cached.info, self._spec(cached, place)

    def _spec(self, model: CachedModel, place: Placement) -> WorkerSpec:
        entry = self._provider(place.device.provider)
        if not self.inventory.is_ready(entry):
            raise self._chooser.nothing_runs(model.info.id, [model.info], Wish(entry.provider.name))
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
            raise CacheError(path="(none)", detail="no plugin brings a cache store; `cupola plugins` says why")
        return self._plugins.cache_stores[0]

    def _provider(self, name: str) -> ProviderEntry:
        return next(entry for entry in self._plugins.providers if entry.provider.name == name)

    def _status(self, entry: Entry) -> ModelStatus:
        loaded = any(resident.info.id == entry.info.id for resident in self._residency.statuses())
        return ModelStatus(entry.info, cached=entry.cached is not None, loaded=loaded)


@asynccontextmanager
async def open_engine(settings: Settings, plugins: PluginSet | None = None) -> AsyncIterator[Engine]:
    """Open an engine; leaving it ends every worker.

    Args:
        settings: What was set.
        plugins: The plugins to work with; None discovers the installed ones.

    Raises:
        PluginConflictError, PluginsFailedError, SettingsError: The plugins cannot be worked with.
    """
    plugins = plugins or load_plugins(settings)
    plugins.ensure_usable()
    keep_addresses_out_of_logs()
    limits = ResidencyLimits.from_settings(settings.models, settings.worker)
    async with (
        ExternalModels(settings.external) as external,
        DownloadJobs() as jobs,
        Residency(limits, plugins.observe) as residency,
    ):
        yield Engine(settings, plugins, residency, jobs, external)


async def _cancelled(worker: Worker, turn: int) -> None:
    with anyio.CancelScope(shield=True):
        await worker.cancel(turn)


def _ignore(event: ProgressEvent) -> None:
    """Take no interest in progress."""

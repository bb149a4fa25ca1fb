"""The contracts of front-ends: what they implement, and the view of the engine they are handed."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, ClassVar, Protocol

from cupola.contracts.models import CachedModel, DownloadStatus, ModelInfo, ModelStatus, Progress, ResidentStatus
from cupola.contracts.provider import Device
from cupola.messages import (
    ChatPrompt,
    Embeddings,
    EmbedRequest,
    GenerateRequest,
    SessionReport,
    TextPrompt,
    TurnCall,
    TurnFinished,
    TurnReasoning,
    TurnText,
)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]


class Generation(Protocol):
    """A running turn: iterate for its text, the last event is `TurnFinished`."""

    @property
    def model(self) -> ModelInfo:
        """The variant that answers."""

    @property
    def report(self) -> SessionReport:
        """What runs it."""

    @property
    def prompt_tokens(self) -> int:
        """Length of the rendered prompt."""

    def __aiter__(self) -> AsyncIterator[TurnText | TurnReasoning | TurnCall | TurnFinished]:
        """Iterate over the events; calls and reasoning are told apart by models elsewhere only.

        Raises:
            WorkerError: The worker failed underway.
            ExternalServiceError: The service elsewhere did.
        """


class EngineView(Protocol):
    """What a front-end may do with the engine. Safe to call from any task of the event loop."""

    @property
    def cache_location(self) -> Path:
        """The folder that new models go to. Raises `CacheError` if there is none."""

    def devices(self) -> Sequence[Device]:
        """List what models can be placed on, in order of preference."""

    async def use_gpu(self, index: int) -> None:
        """Load models on the GPU of this index from now on, where they run on one.

        Raises:
            NoGpuError: Nothing here runs models on GPUs.
            InvalidParameterError: No provider has a GPU of this index.
        """

    async def models(self) -> Sequence[ModelStatus]:
        """List every model of every catalog and cache, best variant of an alias first."""

    async def resolve(self, name: str) -> ModelStatus:
        """Look a model up by id, id without version, or alias, whatever the case.

        Raises:
            ModelNotFoundError: Names what comes near.
        """

    def generate(self, request: GenerateRequest) -> AbstractAsyncContextManager[Generation]:
        """Run a turn. Entering waits until the prompt is accepted; leaving early cancels it within a step.

        Raises:
            ModelNotFoundError, ModelNotCachedError, NoProviderError, LoadError, RequestError, QueueFullError,
            WorkerError, ExternalServiceError: On entering.
        """

    async def tokenize(self, name: str, prompt: ChatPrompt | TextPrompt) -> Sequence[int]:
        """Return the tokens of a prompt, rendered with the model's template if it is a chat. Loads the model."""

    async def detokenize(self, name: str, tokens: Sequence[int]) -> str:
        """Return the text of tokens, special ones as they are written. Loads the model.

        Raises:
            InvalidParameterError: A token is not in the vocabulary.
        """

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """Turn texts into vectors.

        Raises:
            InvalidParameterError: The model is no embedding model, an input is empty or too long.
        """

    async def load(
        self,
        name: str,
        *,
        ttl_s: float | None = None,
        provider: str | None = None,
        device: str | None = None,
        use_fallback: bool = False,
    ) -> ResidentStatus:
        """Load a model, or reset the idle clock of a loaded one.

        Args:
            name: Which model.
            ttl_s: Idle seconds after which it may be unloaded, 0 for never; None keeps what is set.
            provider: The execution provider that shall run it, by its name or its short one, "cuda"; None leaves the
                choice. An idle model that is loaded on another one is loaded anew.
            device: The kind of device that it shall run on, likewise.
            use_fallback: Load the model of the setting `models.fallback` instead if this machine cannot run this one.
                The returned status names the model that was loaded.

        Raises:
            InvalidParameterError: There is no such provider or kind of device.
            NoProviderError: It runs none of the model's variants here.
            ModelBusyError: The model is answering, elsewhere.
        """

    async def unload(self, name: str, *, force: bool = False, wait_s: float | None = None) -> bool:
        """Unload a model; False if it was not loaded.

        Args:
            name: Which model.
            force: End its turns with an error instead of refusing.
            wait_s: Wait this long for its turns to end before refusing; None waits without limit.

        Raises:
            ModelBusyError: Turns are still running.
        """

    async def register(self, service: str, model: str, base_url: str) -> ModelStatus:
        """Offer the model of a service elsewhere that speaks OpenAI's API, as SERVICE/MODEL, until the process ends.

        Raises:
            RequestError: The name or the address is none, or the settings know that service at another address.
        """

    def residents(self) -> Sequence[ResidentStatus]:
        """List the loaded models, most recently used first."""

    async def download(self, name: str, progress: Progress | None = None) -> CachedModel:
        """Bring a model into the cache; returns at once if it is there already.

        Who asks for a model that is under way joins in. When the last one who waits leaves, the download is cancelled.
        """

    async def start_download(self, name: str) -> DownloadStatus:
        """Begin to bring a model into the cache, and return at once. It goes on whether anybody waits or not."""

    def cancel_download(self, model_id: str) -> bool:
        """End a download; False if none of that id is under way. What arrived stays for the next one."""

    def downloads(self) -> Sequence[DownloadStatus]:
        """List the downloads under way, then the last ones that ended."""


class ServiceView(Protocol):
    """What a front-end may know of the service that it is part of, and ask of it."""

    @property
    def urls(self) -> Sequence[str]:
        """Base URLs under which it answers; none before it listens."""

    def stop(self) -> None:
        """Ask it to stop: running requests may end, new ones are refused."""


class ApiFrontend(ABC):
    """Serves the engine over HTTP under some path prefixes. Lives in the service process.

    Attributes:
        name: For listings.
        prefixes: The paths it answers, "/v1"; two front-ends may not claim the same one.
    """

    name: ClassVar[str]
    prefixes: ClassVar[tuple[str, ...]]

    def attach(self, service: ServiceView) -> None:  # noqa: B027 - most front-ends need not know it
        """Take note of the service around. Called once, before `app`, where there is one."""

    @abstractmethod
    def app(self, engine: EngineView) -> ASGIApp:
        """Build the ASGI application. It sees full paths, prefix included. Called once, at start."""


class CliCommand(Protocol):
    """A command for `cupola`; a `click.Command` is one."""

    name: str | None

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run it."""

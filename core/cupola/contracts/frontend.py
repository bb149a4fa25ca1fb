"""The contract of front-ends: what they implement, and the view of the engine that they receive."""

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
    """A running turn. Iterate over it for the events of the answer; the last one is `TurnFinished`."""

    @property
    def model(self) -> ModelInfo:
        """The model variant that runs the turn."""

    @property
    def report(self) -> SessionReport:
        """The session that runs the turn."""

    @property
    def prompt_tokens(self) -> int:
        """The length of the rendered prompt in tokens; 0 if only an external service knows it."""

    def __aiter__(self) -> AsyncIterator[TurnText | TurnReasoning | TurnCall | TurnFinished]:
        """Iterate over the events. Only external models send reasoning and calls as events of their own.

        Raises:
            WorkerError: The worker failed during the turn.
            ExternalServiceError: The external service failed during the turn.
        """


class EngineView(Protocol):
    """The engine as front-ends see it. Safe to call from any task of the event loop."""

    @property
    def cache_location(self) -> Path:
        """The folder for new models. Raises `CacheError` if no cache store is available."""

    def devices(self) -> Sequence[Device]:
        """List the devices that can run models, in order of preference."""

    async def use_gpu(self, index: int) -> None:
        """Load models that run on a GPU on the one with this index from now on.

        Raises:
            NoGpuError: No execution provider on this machine has a GPU.
            InvalidParameterError: No execution provider has a GPU with this index.
        """

    async def models(self) -> Sequence[ModelStatus]:
        """List the models of all catalogs and caches, the best variant of an alias first."""

    async def resolve(self, name: str) -> ModelStatus:
        """Find a model by id, id without version, or alias, ignoring case.

        Raises:
            ModelNotFoundError: Nothing matches; the error suggests similar names.
        """

    def generate(self, request: GenerateRequest) -> AbstractAsyncContextManager[Generation]:
        """Run a turn. Entering waits until the prompt is accepted; leaving early cancels the turn within one step.

        Raises:
            ModelNotFoundError, ModelNotCachedError, NoProviderError, LoadError, RequestError, QueueFullError,
            WorkerError, ExternalServiceError: When entering.
        """

    async def tokenize(self, name: str, prompt: ChatPrompt | TextPrompt) -> Sequence[int]:
        """Tokenize a prompt; chats are rendered with the model's template first. Loads the model if needed."""

    async def detokenize(self, name: str, tokens: Sequence[int]) -> str:
        """Decode tokens to text, including special tokens. Loads the model if needed.

        Raises:
            InvalidParameterError: A token id is not in the vocabulary.
        """

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """Compute embedding vectors. Loads the model if needed.

        Raises:
            InvalidParameterError: The model is not an embedding model, or an input is empty or too long.
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
        """Load a model, or reset the idle timer of a loaded one.

        Args:
            name: Id, id without version, or alias.
            ttl_s: Idle seconds before the model may be unloaded, 0 for never; None keeps the current value.
            provider: The execution provider to run it on, by full or short name, such as "cuda"; None chooses
                automatically. An idle model that is loaded on another provider is reloaded.
            device: The device type to run it on; None chooses automatically.
            use_fallback: Load the model of the setting `models.fallback` instead if this machine cannot run this one.
                The returned status names the model that was loaded.

        Raises:
            InvalidParameterError: The provider or device type is unknown.
            NoProviderError: No requested provider can run a variant of the model.
            ModelBusyError: The model is running turns on another provider.
        """

    async def unload(self, name: str, *, force: bool = False, wait_s: float | None = None) -> bool:
        """Unload a model; False if it was not loaded.

        Args:
            name: Id, id without version, or alias.
            force: Fail its running turns instead of waiting for them.
            wait_s: How long to wait for its turns to end, in seconds; None waits without limit.

        Raises:
            ModelBusyError: Turns are still running after `wait_s`.
        """

    async def register(self, service: str, model: str, base_url: str) -> ModelStatus:
        """Add a model of an external OpenAI-compatible service, as SERVICE/MODEL, until the process ends.

        Raises:
            RequestError: The name or URL is invalid, or the settings define that service with another URL.
        """

    def residents(self) -> Sequence[ResidentStatus]:
        """List the loaded models, most recently used first."""

    async def download(self, name: str, progress: Progress | None = None) -> CachedModel:
        """Download a model; returns immediately if it is cached.

        Concurrent callers for one model share a download. It is cancelled when all of them are.
        """

    async def start_download(self, name: str) -> DownloadStatus:
        """Start downloading a model in the background, and return immediately."""

    def cancel_download(self, model_id: str) -> bool:
        """Cancel a running download; False if there is none for this id. A later download resumes it."""

    def downloads(self) -> Sequence[DownloadStatus]:
        """List the running downloads, then the most recent ones that ended."""


class ServiceView(Protocol):
    """The service as its front-ends see it."""

    @property
    def urls(self) -> Sequence[str]:
        """The base URLs of the service; empty before it listens."""

    def stop(self) -> None:
        """Shut down gracefully: new requests are refused, running ones may finish."""


class ApiFrontend(ABC):
    """Serves the engine over HTTP under its path prefixes. Its methods are called in the service process.

    The smallest implementation::

        class Ping(ApiFrontend):
            name = "ping"
            prefixes = ("/ping",)

            def app(self, engine):
                async def ping(scope, receive, send):
                    headers = [(b"content-type", b"text/plain")]
                    await send({"type": "http.response.start", "status": 200, "headers": headers})
                    await send({"type": "http.response.body", "body": str(len(engine.residents())).encode()})

                return ping

    Attributes:
        name: Unique name, for listings.
        prefixes: The path prefixes it serves, such as "/v1". Two front-ends cannot share one.
    """

    name: ClassVar[str]
    prefixes: ClassVar[tuple[str, ...]]

    def attach(self, service: ServiceView) -> None:  # noqa: B027 - most front-ends need not know it
        """Receive the surrounding service. Called once, before `app`, if the front-end runs inside a service."""

    @abstractmethod
    def app(self, engine: EngineView) -> ASGIApp:
        """Create the ASGI application. Paths include the prefix. Called once, at start."""


class CliCommand(Protocol):
    """A command for `cupola`. Every `click.Command` satisfies this protocol."""

    name: str | None

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run it."""

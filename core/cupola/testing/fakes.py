"""Small implementations of the contracts without runtime, model or network. They pass the conformance suites."""

import random
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio

from cupola.contracts import (
    ApiFrontend,
    ASGIApp,
    CachedModel,
    CatalogSource,
    Device,
    Downloader,
    DownloadStatus,
    EngineView,
    ExecutionProvider,
    Generation,
    Limits,
    ModelFiles,
    ModelInfo,
    ModelStatus,
    Progress,
    ProgressEvent,
    ProviderReport,
    Receive,
    RemoteFile,
    ResidentStatus,
    Scope,
    Send,
    Session,
    Staging,
    TextStream,
    TokenEvent,
    Tokenizer,
    Turn,
)
from cupola.errors import LoadError, ModelNotFoundError, RequestError
from cupola.messages import (
    ChatPrompt,
    Embeddings,
    EmbedRequest,
    GenerateRequest,
    SessionReport,
    TextPrompt,
    TurnFinished,
    TurnText,
    Usage,
)

MODEL = ModelInfo(id="fake-generic-cpu:1", alias="fake", source="fakes", publisher="Fakes", context_length=1024)


class CharacterTokenizer(Tokenizer):
    """A tokenizer whose tokens are code points."""

    def render(self, prompt: ChatPrompt) -> list[int]:
        """Join the messages."""
        return self.encode("".join(message.content for message in prompt.messages))

    def encode(self, text: str) -> list[int]:
        """Return the code points."""
        return list(map(ord, text))

    def stream(self, *, special: bool = False) -> TextStream:  # noqa: ARG002 - none is special
        """Return a decoder."""
        return _Characters()


class _Characters:
    def push(self, token: int) -> str:
        return chr(token)

    def flush(self) -> str:
        return ""


class RepeatingSession(Session):
    """Repeats the prompt; with a temperature, in random order."""

    kind, reason, capacity, context_length = "generator", "it is a fake", 2, 1024

    def __init__(self, prefill_chunk: int = 128) -> None:
        self.tokenizer = CharacterTokenizer()
        self._prefill_chunk = prefill_chunk
        self._turns: dict[int, Turn] = {}
        self._computed: dict[int, int] = {}

    def check(self, turn: Turn) -> None:
        """Reject unsupported fields."""
        if turn.guidance or turn.top_logprobs is not None or turn.min_tokens:
            raise RequestError(detail="A repeating session does not support guidance, log probabilities or min_tokens.")
        if not turn.prompt or not all(0 <= token <= 0x10FFFF for token in turn.prompt):
            raise RequestError(detail="The prompt is empty, or contains an invalid token.")

    def admit(self, turn: Turn) -> None:
        """Accept a turn."""
        self._turns[turn.id], self._computed[turn.id] = turn, 0

    def step(self) -> Sequence[TokenEvent]:
        """Compute a chunk of each prompt, or one token of each answer."""
        events = []
        for turn in list(self._turns.values()):
            done = self._computed[turn.id]
            self._computed[turn.id] += min(self._prefill_chunk, max(1, len(turn.prompt) - done))
            event = TokenEvent(turn.id) if done < len(turn.prompt) else self._write(turn, done - len(turn.prompt))
            if event.finish:
                self.cancel(turn.id)
            events.append(event)
        return events

    def cancel(self, turn_id: int) -> None:
        """Remove a turn."""
        self._turns.pop(turn_id, None)

    def _write(self, turn: Turn, position: int) -> TokenEvent:
        token = turn.prompt[position % len(turn.prompt)]
        if turn.sampling.temperature:
            token = random.Random(f"{turn.sampling.seed} {position}").choice(turn.prompt)  # noqa: S311
        if token in turn.stop_token_ids:
            return TokenEvent(turn.id, finish="stop", stop_token=token)
        if position + 1 == turn.max_tokens:
            return TokenEvent(turn.id, (token,), finish="length")
        is_over = position + 1 == len(turn.prompt) and not turn.ignore_eos
        return TokenEvent(turn.id, (token,), finish="stop" if is_over else None)


class RepeatingProvider(ExecutionProvider):
    """Opens repeating sessions for any folder with a genai_config.json."""

    name = "RepeatingExecutionProvider"
    device_types = ("CPU",)

    def probe(self) -> ProviderReport:
        """Report its only device."""
        return ProviderReport(self.name, (Device(self.name, "CPU", "fake"),))

    def load(self, model: ModelFiles, device: Device, options: Any, limits: Limits) -> Session:  # noqa: ARG002
        """Open a session."""
        if not (model.path / "genai_config.json").exists():
            raise LoadError(model=model.id, detail=f"there is no genai_config.json in {model.path}")
        return RepeatingSession(limits.prefill_chunk)


class Shelf(CatalogSource):
    """Lists models with the files of a local folder; without one, a model is an empty genai_config.json."""

    name = "fakes"

    def __init__(self, models: Sequence[ModelInfo] = (MODEL,), folder: Path | None = None) -> None:
        self._models, self._folder = models, folder

    async def models(self) -> Sequence[ModelInfo]:
        """Return the models."""
        return self._models

    async def files(self, model: ModelInfo) -> Sequence[RemoteFile]:  # noqa: ARG002
        """Return no files, because nothing is downloaded."""
        return ()

    async def fetch(self, model: ModelInfo, staging: Staging, downloader: Downloader, progress: Progress) -> None:  # noqa: ARG002
        """Copy the files."""
        folder = anyio.Path(self._folder) if self._folder else None
        files: Mapping[str, bytes] = {"genai_config.json": b"{}"}
        if folder:
            files = {p.name: await p.read_bytes() async for p in folder.iterdir() if await p.is_file()}
        for name, content in files.items():
            await anyio.Path(staging.path / name).write_bytes(content)
        progress(ProgressEvent("download", len(files), len(files), "files"))


class FakeEngine:
    """An engine without models, to test front-ends: every turn answers with a script.

    Attributes:
        script: The pieces of every answer. An event is waited for.
        refusal: Raised when a turn is entered, if set.
        requests: What was asked, in order.
        running: Turns that are open.
    """

    def __init__(self) -> None:
        self.script: Sequence[str | anyio.Event] = ("Hello", ", ", "world")
        self.refusal: Exception | None = None
        self.requests: list[GenerateRequest] = []
        self.running = 0
        self.report = SessionReport("generator", "it is a fake", 1, 1024, 1, "CPUExecutionProvider", 0.1, 1)

    @property
    def cache_location(self) -> Path:
        """A placeholder folder."""
        return Path("/nowhere")

    def devices(self) -> Sequence[Device]:
        """Return a CPU device."""
        return (Device("CPUExecutionProvider", "CPU"),)

    async def use_gpu(self, index: int) -> None:
        """Do nothing."""

    async def models(self) -> Sequence[ModelStatus]:
        """Return the only model."""
        return (ModelStatus(MODEL, cached=True, loaded=True),)

    async def resolve(self, name: str) -> ModelStatus:
        """Return the only model."""
        if name.lower() not in (MODEL.id, MODEL.name, MODEL.alias):
            raise ModelNotFoundError(model=name, near=MODEL.alias)
        return (await self.models())[0]

    @asynccontextmanager
    async def generate(self, request: GenerateRequest) -> AsyncIterator[Generation]:
        """Run the script."""
        self.requests.append(request)
        await self.resolve(request.model)
        if self.refusal:
            raise self.refusal
        self.running += 1
        try:
            yield _Scripted(self)
        finally:
            self.running -= 1

    async def tokenize(self, name: str, prompt: ChatPrompt | TextPrompt) -> Sequence[int]:
        """Convert text to code points."""
        await self.resolve(name)
        tokenizer = CharacterTokenizer()
        return tokenizer.render(prompt) if isinstance(prompt, ChatPrompt) else tokenizer.encode(prompt.text)

    async def detokenize(self, name: str, tokens: Sequence[int]) -> str:
        """Convert code points to text."""
        await self.resolve(name)
        return "".join(map(chr, tokens))

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """Reject: the model is not an embedding model."""
        raise RequestError(detail=f"{request.model!r} is not an embedding model.")

    async def load(
        self,
        name: str,
        *,
        ttl_s: float | None = None,
        provider: str | None = None,  # noqa: ARG002 - there is one
        device: str | None = None,  # noqa: ARG002
        use_fallback: bool = False,  # noqa: ARG002 - there is none
    ) -> ResidentStatus:
        """Return the loaded model."""
        return ResidentStatus((await self.resolve(name)).info, self.report, 1, self.running, ttl_s, ttl_s)

    async def register(self, service: str, model: str, base_url: str) -> ModelStatus:  # noqa: ARG002
        """Reject external models."""
        raise RequestError(detail="A fake engine has no external models.")

    async def unload(self, name: str, *, force: bool = False, wait_s: float | None = None) -> bool:  # noqa: ARG002
        """Return True, as for a loaded model."""
        await self.resolve(name)
        return True

    def residents(self) -> Sequence[ResidentStatus]:
        """Return the only model."""
        return (ResidentStatus(MODEL, self.report, 1, self.running, None, None),)

    async def download(self, name: str, progress: Progress | None = None) -> CachedModel:  # noqa: ARG002
        """Return the cached model."""
        return CachedModel((await self.resolve(name)).info, self.cache_location, 1)

    async def start_download(self, name: str) -> DownloadStatus:
        """Return a finished download."""
        return DownloadStatus((await self.resolve(name)).info, "done", ProgressEvent("download", 1, 1))

    def cancel_download(self, model_id: str) -> bool:  # noqa: ARG002
        """Return False, as for no download."""
        return False

    def downloads(self) -> Sequence[DownloadStatus]:
        """Return no downloads."""
        return ()


class _Scripted:
    def __init__(self, engine: FakeEngine) -> None:
        self.model, self.report, self.prompt_tokens = MODEL, engine.report, 3
        self._script = engine.script

    async def __aiter__(self) -> AsyncIterator[TurnText | TurnFinished]:
        for piece in self._script:
            await anyio.lowlevel.checkpoint()
            if isinstance(piece, str):
                yield TurnText(1, piece, 1)
            else:
                await piece.wait()
        yield TurnFinished(1, "stop", Usage(self.prompt_tokens, len(self._script)))


class PlainFrontend(ApiFrontend):
    """Responds to `POST /plain` with the answer to the text in the body."""

    name = "plain"
    prefixes = ("/plain",)

    def app(self, engine: EngineView) -> ASGIApp:
        """Build the application."""

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            message = await receive()
            status, body = 404, b"There is only POST /plain."
            if (scope["method"], scope["path"]) == ("POST", "/plain"):
                status, body = 0, b""
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(_cancel_when_gone, receive, tasks.cancel_scope)
                    status, body = await _answered(engine, message.get("body", b""))
                    tasks.cancel_scope.cancel()
            if not status:
                return  # the client is gone, and its turn with it
            head = {"type": "http.response.start", "status": status, "headers": [(b"content-type", b"text/plain")]}
            await send(head)
            await send({"type": "http.response.body", "body": body})

        return app


async def _answered(engine: EngineView, body: bytes) -> tuple[int, bytes]:
    try:
        async with engine.generate(GenerateRequest("fake", TextPrompt(body.decode()))) as generation:
            return 200, "".join([e.text async for e in generation if isinstance(e, TurnText)]).encode()
    except UnicodeDecodeError:
        return 400, b"The text is not UTF-8."
    except Exception as error:  # noqa: BLE001 - the request boundary
        return 500, str(error).encode()


async def _cancel_when_gone(receive: Receive, scope: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()

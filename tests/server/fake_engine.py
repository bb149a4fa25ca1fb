"""An engine that answers from a script, and a server around it: what the tests of front-ends share."""

import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import anyio
from anyio.lowlevel import checkpoint

from cupola.errors import InvalidParameterError, ModelNotFoundError
from cupola.frontend import (
    ASGIApp,
    CachedModel,
    ChatPrompt,
    Embeddings,
    EmbedRequest,
    GenerateRequest,
    Generation,
    ModelInfo,
    ModelStatus,
    Progress,
    ResidentStatus,
    SessionReport,
    TextPrompt,
    TurnFinished,
    TurnText,
    Usage,
)
from cupola.settings import ServerSettings
from cupola_server.health import Health
from cupola_server.middleware import Observe
from cupola_server.server import serve

TINY = ModelInfo(
    id="tiny-generic-cpu:2",
    alias="tiny",
    source="tests",
    publisher="Tests",
    context_length=2048,
    max_output_tokens=512,
    created_unix=1_700_000_000,
)
REMOTE = ModelInfo(id="remote-generic-cpu:1", alias="remote", source="tests", publisher="Tests")
EMBEDDER = ModelInfo(id="embedder-cpu:1", alias="embedder", source="tests", publisher="Tests", task="embeddings")


class FakeEngine:
    """An `EngineView` whose turns follow a script.

    Attributes:
        refusal: Raised on entering a turn.
        accepting: If set, entering a turn waits for this event.
        script: What a turn does: a text or `TurnText` is yielded, an error raised, an event waited for.
        finish: The turn's last event; None leaves it out.
        requests: What was asked, in order.
        report: What a loaded model says of itself.
        embed_requests: Which vectors were asked for, in order.
        prompts: Whose tokens were asked for, in order; a token is the code of a character.
        generation_prompt: What a chat's prompt ends with.
        running: Turns whose context is open.
        left: Set whenever a turn's context is left.
    """

    def __init__(self) -> None:
        self.models_known = [
            ModelStatus(EMBEDDER, cached=True, loaded=False),
            ModelStatus(REMOTE, cached=False, loaded=False),
            ModelStatus(TINY, cached=True, loaded=True),
        ]
        self.refusal: Exception | None = None
        self.accepting: anyio.Event | None = None
        self.script: Sequence[str | TurnText | Exception | anyio.Event] = ("Hello", ", ", "world")
        self.finish: TurnFinished | None = TurnFinished(1, "stop", Usage(11, 3, 4))
        self.requests: list[GenerateRequest] = []
        self.report = SessionReport("slots", "tests", 8, 2048, 1, "CPUExecutionProvider", 0.1, 1)
        self.embed_requests: list[EmbedRequest] = []
        self.prompts: list[ChatPrompt | TextPrompt] = []
        self.generation_prompt = "<assistant>"
        self.running = 0
        self.entering = anyio.Event()
        self.left = anyio.Event()

    async def models(self) -> Sequence[ModelStatus]:
        await checkpoint()
        return self.models_known

    async def resolve(self, name: str) -> ModelStatus:
        await checkpoint()
        for status in self.models_known:
            if name.lower() in (status.info.id, status.info.name, status.info.alias):
                return status
        raise ModelNotFoundError(model=name, near="tiny")

    @asynccontextmanager
    async def generate(self, request: GenerateRequest) -> AsyncIterator[Generation]:
        self.requests.append(request)
        self.running += 1
        self.entering.set()
        try:
            await checkpoint()
            if self.accepting is not None:
                await self.accepting.wait()
            if self.refusal is not None:
                raise self.refusal
            status = await self.resolve(request.model)
            yield _ScriptedTurn(status.info, self.report, self.script, self.finish)
        finally:
            self.running -= 1
            self.left.set()

    async def tokenize(self, name: str, prompt: ChatPrompt | TextPrompt) -> Sequence[int]:
        await self.resolve(name)
        self.prompts.append(prompt)
        if isinstance(prompt, ChatPrompt):
            text = "".join(f"<{message.role}>{message.content}" for message in prompt.messages)
            open_end = prompt.template_options.get("add_generation_prompt", True)
            return tuple(map(ord, text + self.generation_prompt * open_end))
        return tuple(map(ord, prompt.text))

    async def detokenize(self, name: str, tokens: Sequence[int]) -> str:
        await self.resolve(name)
        if strange := [token for token in tokens if token > 0x10FFFF]:
            raise InvalidParameterError(param="tokens", detail=f"There is no token {strange[0]}.")
        return "".join(map(chr, tokens))

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """Give each input the vector (its length, 1, -0.5), and refuse those of more than 100."""
        await checkpoint()
        self.embed_requests.append(request)
        if self.refusal is not None:
            raise self.refusal
        for number, one in enumerate(request.inputs):
            if len(one) > 100:
                detail = f"An input has {len(one)} tokens; this model takes 100. Cut it into parts."
                raise InvalidParameterError(param=f"input[{number}]", detail=detail)
        vectors = tuple(struct.pack("<3f", len(one), 1, -0.5) for one in request.inputs)
        return Embeddings(vectors, sum(map(len, request.inputs)))

    async def load(
        self, name: str, *, ttl_s: float | None = None, provider: str | None = None, use_fallback: bool = False
    ) -> ResidentStatus:
        status = await self.resolve(name)
        return ResidentStatus(status.info, self.report, pid=1, turns=0, ttl_s=ttl_s, expires_in_s=ttl_s)

    async def unload(self, name: str, *, force: bool = False, wait_s: float | None = None) -> bool:
        raise NotImplementedError

    def residents(self) -> Sequence[ResidentStatus]:
        return ()

    async def download(self, name: str, progress: Progress | None = None) -> CachedModel:
        raise NotImplementedError


class _ScriptedTurn:
    def __init__(self, model, report, script, finish):
        self.model = model
        self.report = report
        self.prompt_tokens = 11
        self._script, self._finish = script, finish

    async def __aiter__(self) -> AsyncIterator[TurnText | TurnFinished]:
        for line in self._script:
            await checkpoint()
            if isinstance(line, Exception):
                raise line
            if isinstance(line, TurnText):
                yield line
            elif isinstance(line, str):
                yield TurnText(1, line, 1)
            else:
                await line.wait()
        if self._finish is not None:
            yield self._finish


@asynccontextmanager
async def running(
    app: ASGIApp, *, health: Health | None = None, observe: Observe | None = None, **settings: object
) -> AsyncIterator[str]:
    """Serve an application in the test's own event loop, where it also goes by the name "x"; yields the base URL."""
    stop = anyio.Event()
    started = anyio.Event()
    urls: list[str] = []

    def ready(url: str) -> None:
        urls.append(url)
        started.set()

    async def run() -> None:
        chosen = {"port": 0, "drain_timeout_s": 0.2, "allowed_hosts": ("x",), **settings}
        await serve(app, ServerSettings(**chosen), ready=ready, stop=stop, health=health, observe=observe)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        await started.wait()
        try:
            yield urls[0]
        finally:
            stop.set()

"""From a chat request to the pieces of its answers, without HTTP and without an API.

Chat completions and responses are both built on this.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import msgspec

from cupola.errors import InvalidParameterError, WorkerError
from cupola.frontend import EngineView, Generation, ModelInfo, TurnCall, TurnFinished, TurnReasoning
from cupola_server.openai.asking import ChatAsk, Params, ToolChoice
from cupola_server.openai.elsewhere import ReadyCalls, handed_on
from cupola_server.openai.pieces import ContentDelta, Finished, Piece, ReasoningDelta
from cupola_server.openai.preparing import Prepared, prepare
from cupola_server.openai.templates import Template
from cupola_server.openai.tools import TOOL_FORMATS, ToolFormat, format_for
from cupola_server.openai.tools.grammar import explained

__all__ = ["Answer", "ChatAsk", "ChatTurns", "Params", "Prepared", "ToolChoice"]

_BROKEN_OFF = "The answer broke off without saying why."
_CANCELLED = "The service cancelled this answer before it was complete."


class ChatTurns:
    """Asks an engine, and tells its answers apart.

    Args:
        engine: Whom to ask.
        formats: The formats of calls that are known, the most telling sign first.
    """

    def __init__(self, engine: EngineView, formats: Sequence[ToolFormat] = TOOL_FORMATS) -> None:
        self._engine = engine
        self._formats = formats
        self._known: dict[str, tuple[Template, ToolFormat]] = {}

    async def prepare(self, ask: ChatAsk) -> Prepared:
        """Make a request ready for the model it names, which is loaded if need be, or for the one that stands in.

        Raises:
            FieldError: The model's template cannot do what is asked.
            CupolaError: Whatever the engine says about loading.
        """
        loaded = await self._engine.load(ask.request.model, use_fallback=True)
        # by its id: what answers is what was loaded, also where another model stands in
        ask = msgspec.structs.replace(ask, request=msgspec.structs.replace(ask.request, model=loaded.info.id))
        if loaded.report.kind == "external":
            return handed_on(ask)
        source = loaded.report.template
        if source not in self._known:
            self._known[source] = Template(source), format_for(source, self._formats)
        return await prepare(ask, *self._known[source], self._engine)

    @asynccontextmanager
    async def open(self, prepared: Prepared, choice: int = 0) -> AsyncIterator["Answer"]:
        """Run a turn. Entering waits until the prompt is accepted; leaving early cancels it.

        Args:
            prepared: What to ask.
            choice: Which of several answers; each gets a seed of its own.
        """
        request = prepared.request
        if choice and request.sampling.seed is not None:
            sampling = msgspec.structs.replace(request.sampling, seed=_moved(request.sampling.seed, choice))
            request = msgspec.structs.replace(request, sampling=sampling)
        try:
            async with self._engine.generate(request) as generation:
                yield Answer(generation, prepared)
        except InvalidParameterError as error:
            if error.param == "provider":  # which is called so everywhere but in this API
                raise InvalidParameterError(param="ep", detail=error.detail) from None
            if not (prepared.tools and request.guidance):
                raise
            raise explained(error, request.guidance, prepared.tools) from None


class Answer:
    """A running turn, as pieces. The last one is `Finished`."""

    def __init__(self, generation: Generation, prepared: Prepared) -> None:
        self.model: ModelInfo = generation.model
        self.prompt_tokens = generation.prompt_tokens
        self._generation = generation
        self.is_external = generation.report.kind == "external"
        self._reader = prepared.reader()
        self._call_id = prepared.call_id

    async def __aiter__(self) -> AsyncIterator[Piece]:
        """Iterate over the pieces.

        Raises:
            WorkerError: The answer broke off, or the service cancelled it.
            ExternalServiceError: It broke off at the service elsewhere that gives it.
        """
        reader, calls = self._reader, ReadyCalls(self._call_id)
        plain = False
        async for event in self._generation:
            if isinstance(event, TurnReasoning):
                yield ReasoningDelta(event.text)
                continue
            if isinstance(event, TurnCall):
                for part in calls.read(event):
                    yield part
                continue
            if isinstance(event, TurnFinished):
                for piece in reader.finish(cut=isinstance(event.stopped_by, str)):
                    yield piece
                yield _finished(event, called=reader.called or bool(calls.indices))
                return
            if plain:
                if event.text:
                    yield ContentDelta(event.text)
                continue
            for piece in reader.feed(event):
                yield piece
            plain = reader.is_plain
        raise WorkerError(detail=_BROKEN_OFF)


def _finished(event: TurnFinished, *, called: bool) -> Finished:
    if event.reason == "cancelled":
        raise WorkerError(detail=_CANCELLED)
    reason = "tool_calls" if called and event.reason == "stop" else event.reason
    return Finished(reason, event.usage, event.stopped_by)


def _moved(seed: int, by: int) -> int:
    """Add to a seed without leaving the 64 bits that it has."""
    return (seed + by + 2**63) % 2**64 - 2**63

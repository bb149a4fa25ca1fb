"""Answers as streams of events: one running turn, or several that run at the same time."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence

import anyio
from anyio.streams.memory import MemoryObjectSendStream

from cupola.errors import WorkerError
from cupola.frontend import Generation, ModelInfo, TurnCall, TurnFinished, TurnReasoning, Usage
from cupola_server.openai.answer_parser import AnswerParser
from cupola_server.openai.stream_events import (
    ContentDelta,
    Finished,
    ReasoningDelta,
    StreamEvent,
    ToolArgumentsDelta,
    ToolCallStarted,
)

EventHandler = Callable[[int, StreamEvent], Awaitable[None]]
"""Receives the index of a stream and its next event."""

_INCOMPLETE = "The answer ended unexpectedly, without a reason."
_CANCELLED = "The service cancelled this answer before it was complete."


class AnswerStream:
    """A running turn as a stream of events, the last of which is `Finished`.

    Args:
        generation: The engine's turn.
        parser: Separates reasoning and calls from the text of local models.
        call_id: Creates ids for the calls of external models.

    Attributes:
        model: The variant that runs the turn.
        prompt_tokens: Length of the prompt in tokens; 0 if only an external service knows it.
        is_external: Whether an external service runs the turn.
    """

    def __init__(self, generation: Generation, parser: AnswerParser, call_id: Callable[[], str]) -> None:
        self.model: ModelInfo = generation.model
        self.prompt_tokens = generation.prompt_tokens
        self.is_external = generation.report.kind == "external"
        self._generation = generation
        self._parser = parser
        self._call_id = call_id

    async def __aiter__(self) -> AsyncIterator[StreamEvent]:
        """Iterate over the events.

        Raises:
            WorkerError: The answer ended early, or the service cancelled it.
            ExternalServiceError: The external service failed.
        """
        parser, calls = self._parser, _ExternalCalls(self._call_id)
        is_plain = False
        async for event in self._generation:
            if isinstance(event, TurnReasoning):
                yield ReasoningDelta(event.text)
                continue
            if isinstance(event, TurnCall):
                for part in calls.convert(event):
                    yield part
                continue
            if isinstance(event, TurnFinished):
                for last in parser.finish(cut=isinstance(event.stopped_by, str)):
                    yield last
                yield _finished(event, has_calls=parser.has_calls or bool(calls.indices))
                return
            if is_plain:
                if event.text:
                    yield ContentDelta(event.text)
                continue
            for parsed in parser.feed(event):
                yield parsed
            is_plain = parser.is_plain
        raise WorkerError(detail=_INCOMPLETE)


async def multiplex(streams: Sequence[AnswerStream], handler: EventHandler) -> Usage:
    """Pass the events of all streams to the handler as they arrive, one at a time.

    Returns:
        The token usage of all streams together. As at OpenAI the prompt counts once, with the cached tokens that the
        first stream found.

    Raises:
        WorkerError, ExternalServiceError: One of the streams failed.
    """
    usages: dict[int, Usage] = {}

    async def handle(index: int, event: StreamEvent) -> None:
        if isinstance(event, Finished):
            usages[index] = event.usage
        await handler(index, event)

    if len(streams) == 1:
        async for event in streams[0]:
            await handle(0, event)
    else:
        await _merge(streams, handle)
    completion_tokens = sum(usage.completion_tokens for usage in usages.values())
    return Usage(usages[0].prompt_tokens, completion_tokens, usages[0].cached_tokens)


async def _merge(streams: Sequence[AnswerStream], handler: EventHandler) -> None:
    sender, receiver = anyio.create_memory_object_stream[tuple[int, StreamEvent]](0)
    try:
        async with anyio.create_task_group() as tasks, receiver:
            for index, stream in enumerate(streams):
                tasks.start_soon(_send_events, index, stream, sender.clone())
            sender.close()
            async for index, event in receiver:
                await handler(index, event)
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from None  # a response can report one error


async def _send_events(
    index: int, stream: AnswerStream, sender: MemoryObjectSendStream[tuple[int, StreamEvent]]
) -> None:
    async with sender:
        async for event in stream:
            await sender.send((index, event))


def _finished(event: TurnFinished, *, has_calls: bool) -> Finished:
    if event.reason == "cancelled":
        raise WorkerError(detail=_CANCELLED)
    reason = "tool_calls" if has_calls and event.reason == "stop" else event.reason
    return Finished(reason, event.usage, event.stopped_by)


class _ExternalCalls:
    """Converts the calls of external models, with new ids as for local models.

    Attributes:
        indices: The index of each call in our stream, by its index in the external one.
    """

    def __init__(self, call_id: Callable[[], str]) -> None:
        self.indices: dict[int, int] = {}
        self._call_id = call_id

    def convert(self, event: TurnCall) -> Iterator[StreamEvent]:
        """Yield the events for a part of a call."""
        if event.index not in self.indices:
            self.indices[event.index] = len(self.indices)
            yield ToolCallStarted(self.indices[event.index], self._call_id(), event.name)
        if event.arguments:
            yield ToolArgumentsDelta(self.indices[event.index], event.arguments)

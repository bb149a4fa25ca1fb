"""Encodes the answers of chat completions: complete responses, and chunks of a stream."""

import time
from collections.abc import Iterable, Sequence
from uuid import uuid4

import msgspec
from msgspec import UNSET

from cupola.frontend import TokenLogprob, Usage
from cupola_server.openai.schema.chat_completion import (
    ChatCompletion,
    ChatCompletionChunk,
    ChoiceLogprobs,
    ChunkChoice,
    CompletionChoice,
    CompletionMessage,
    CompletionUsage,
    ContentLogprob,
    Delta,
    FunctionDelta,
    PromptTokensDetails,
    ToolCallDelta,
    TopLogprob,
)
from cupola_server.openai.schema.tools import CalledFunction, MessageToolCall
from cupola_server.openai.stream import AnswerStream, multiplex
from cupola_server.openai.stream_events import (
    ContentDelta,
    EndReason,
    Finished,
    ReasoningDelta,
    StreamEvent,
    ToolArgumentsDelta,
    ToolCallStarted,
)

DONE = b"data: [DONE]\n\n"

_EMPTY_CONTENT = b'"delta":{"content":""'
_IMPOSSIBLE = -9999.0
"""OpenAI's value for the log probability of nearly impossible tokens; JSON has no infinity."""


def encode_completion(model: str, choices: Sequence[CompletionChoice], usage: Usage) -> bytes:
    """Encode a response that was not streamed."""
    completion = ChatCompletion(
        id=_new_id(), created=_now(), model=model, choices=tuple(choices), usage=completion_usage(usage)
    )
    return msgspec.json.encode(completion)


async def collect(streams: Sequence[AnswerStream]) -> tuple[Sequence[CompletionChoice], Usage]:
    """Collect every choice to its end and return them with the token usage.

    Raises:
        WorkerError, ExternalServiceError: One of the streams failed.
    """
    drafts = [ChoiceDraft() for _ in streams]

    async def add(index: int, event: StreamEvent) -> None:
        drafts[index].add(event)

    usage = await multiplex(streams, add)
    return [draft.choice(index) for index, draft in enumerate(drafts)], usage


class ChoiceDraft:
    """Assembles a choice from the events of its stream."""

    def __init__(self) -> None:
        self._content: list[str] = []
        self._reasoning: list[str] = []
        self._calls: list[tuple[ToolCallStarted, list[str]]] = []
        self._logprobs: list[TokenLogprob] | None = None
        self._reason: EndReason = "stop"

    def add(self, event: StreamEvent) -> None:
        """Add an event."""
        match event:
            case ContentDelta():
                self._content.append(event.text)
                if event.logprobs:
                    self._logprobs = [*(self._logprobs or ()), *event.logprobs]
            case ReasoningDelta():
                self._reasoning.append(event.text)
            case ToolCallStarted():
                self._calls.append((event, []))
            case ToolArgumentsDelta():
                self._calls[event.index][1].append(event.text)
            case Finished():
                self._reason = event.reason

    def choice(self, index: int) -> CompletionChoice:
        """Return the complete choice."""
        calls = [
            MessageToolCall(id=call.id, function=CalledFunction(call.name, "".join(arguments)))
            for call, arguments in self._calls
        ]
        message = CompletionMessage(
            content="".join(self._content) if self._content or not calls else None,
            reasoning_content="".join(self._reasoning) if self._reasoning else UNSET,
            tool_calls=calls or UNSET,
        )
        logprobs = None if self._logprobs is None else choice_logprobs(self._logprobs)
        return CompletionChoice(index=index, message=message, logprobs=logprobs, finish_reason=self._reason)


class ChunkEncoder:
    """Encodes the chunks of streamed choices as server-sent events.

    Chunks with text differ in a few bytes only. The bytes around the text are encoded once, so that a token costs no
    more than the encoding of its text.

    Args:
        model: The model's id.
        choices: The number of choices.
        include_usage: Whether a last chunk reports the token usage.
    """

    def __init__(self, model: str, *, choices: int = 1, include_usage: bool) -> None:
        self._include_usage = include_usage
        usage = None if include_usage else UNSET
        self._template = ChatCompletionChunk(id=_new_id(), created=_now(), model=model, choices=(), usage=usage)
        self._frames = [self._frame(index) for index in range(choices)]

    def opening(self) -> bytes:
        """Return the first chunk of each choice, which contains the role."""
        delta = Delta(role="assistant", content="", refusal=None)
        return b"".join(self._chunk(ChunkChoice(index=index, delta=delta)) for index in range(len(self._frames)))

    def chunk(self, index: int, event: StreamEvent) -> bytes:
        """Return the chunk for an event of a choice."""
        if isinstance(event, ContentDelta) and not event.logprobs:
            before, after = self._frames[index]
            return before + msgspec.json.encode(event.text) + after
        return self._chunk(_chunk_choice(index, event))

    def closing(self, usage: Usage) -> bytes:
        """Return the end of the stream, with the token usage if the client asked for it."""
        if not self._include_usage:
            return DONE
        last = msgspec.structs.replace(self._template, usage=completion_usage(usage))
        return sse_event(msgspec.json.encode(last)) + DONE

    def _frame(self, index: int) -> tuple[bytes, bytes]:
        """Return the bytes before and after the text of a chunk."""
        chunk = self._chunk(ChunkChoice(index=index, delta=Delta(content="")))
        # quotation marks in the id or the model's name are escaped, so the pattern matches in this place only
        before, _, after = chunk.partition(_EMPTY_CONTENT)
        return before + _EMPTY_CONTENT.removesuffix(b'""'), after

    def _chunk(self, choice: ChunkChoice) -> bytes:
        return sse_event(msgspec.json.encode(msgspec.structs.replace(self._template, choices=(choice,))))


def sse_event(data: bytes) -> bytes:
    """Frame JSON without newlines as a server-sent event."""
    return b"data: " + data + b"\n\n"


def completion_usage(usage: Usage) -> CompletionUsage:
    """Convert token counts to OpenAI's format."""
    return CompletionUsage(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        total_tokens=usage.prompt_tokens + usage.completion_tokens,
        prompt_tokens_details=PromptTokensDetails(usage.cached_tokens),
    )


def choice_logprobs(tokens: Iterable[TokenLogprob]) -> ChoiceLogprobs:
    """Convert the log probabilities of content to OpenAI's format."""
    return ChoiceLogprobs([content_logprob(token) for token in tokens])


def content_logprob(token: TokenLogprob) -> ContentLogprob:
    """Convert the log probability of one token to OpenAI's format."""
    top = [TopLogprob(_decode(data), _finite(logprob), list(data)) for data, logprob in token.top]
    return ContentLogprob(_decode(token.token), _finite(token.logprob), list(token.token), top)


def _chunk_choice(index: int, event: StreamEvent) -> ChunkChoice:
    if isinstance(event, Finished):
        return ChunkChoice(index=index, delta=Delta(), finish_reason=event.reason)
    if isinstance(event, ContentDelta):
        return ChunkChoice(index=index, delta=Delta(content=event.text), logprobs=choice_logprobs(event.logprobs))
    if isinstance(event, ReasoningDelta):
        return ChunkChoice(index=index, delta=Delta(reasoning_content=event.text))
    if isinstance(event, ToolCallStarted):
        function = FunctionDelta(name=event.name, arguments="")
        call = ToolCallDelta(index=event.index, id=event.id, type="function", function=function)
    else:
        call = ToolCallDelta(index=event.index, function=FunctionDelta(arguments=event.text))
    return ChunkChoice(index=index, delta=Delta(tool_calls=(call,)))


def _decode(data: bytes) -> str:
    return data.decode(errors="replace")


def _finite(logprob: float) -> float:
    return max(logprob, _IMPOSSIBLE)


def _new_id() -> str:
    return f"chatcmpl-{uuid4().hex}"


def _now() -> int:
    return int(time.time())

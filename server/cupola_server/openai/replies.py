"""From what the engine answers to the bytes that an OpenAI client reads."""

import time
from collections.abc import Iterable, Sequence
from uuid import uuid4

import msgspec

from cupola.frontend import ModelStatus, Usage
from cupola_server.openai.logprobs import choice_logprobs
from cupola_server.openai.pieces import ContentDelta, Finished, Piece, ReasoningDelta, ToolCallStarted
from cupola_server.openai.schema import (
    ChatCompletion,
    ChatCompletionChunk,
    ChunkChoice,
    CompletionChoice,
    CompletionUsage,
    Delta,
    Model,
    ModelList,
    PromptTokensDetails,
)
from cupola_server.openai.schema.completion import FunctionDelta, ToolCallDelta

DONE = b"data: [DONE]\n\n"

_EMPTY_CONTENT = b'"delta":{"content":""'


def completion(model: str, choices: Sequence[CompletionChoice], usage: Usage) -> bytes:
    """Encode whole answers."""
    reply = ChatCompletion(
        id=_new_id(), created=_now(), model=model, choices=tuple(choices), usage=completion_usage(usage)
    )
    return msgspec.json.encode(reply)


class ChunkEncoder:
    """Encodes the chunks of streamed answers, as server-sent events.

    All chunks of text are alike but for a few bytes. What surrounds the text is encoded once, so that a token costs
    the encoding of its text and nothing else.
    """

    def __init__(self, model: str, *, choices: int = 1, include_usage: bool) -> None:
        self._include_usage = include_usage
        usage = None if include_usage else msgspec.UNSET
        self._blank = ChatCompletionChunk(id=_new_id(), created=_now(), model=model, choices=(), usage=usage)
        self._frames = [self._frame(index) for index in range(choices)]

    def opening(self) -> bytes:
        """Return the first chunk of each answer, which names the role."""
        delta = Delta(role="assistant", content="", refusal=None)
        return b"".join(self._event(ChunkChoice(index=index, delta=delta)) for index in range(len(self._frames)))

    def piece(self, index: int, piece: Piece) -> bytes:
        """Return the chunk for a piece of an answer."""
        if isinstance(piece, ContentDelta) and not piece.logprobs:
            before, after = self._frames[index]
            return before + msgspec.json.encode(piece.text) + after
        return self._event(_choice(index, piece))

    def closing(self, usage: Usage) -> bytes:
        """Return everything after the answers: what they took if that was asked for, and the end mark."""
        if not self._include_usage:
            return DONE
        last = msgspec.structs.replace(self._blank, usage=completion_usage(usage))
        return event(msgspec.json.encode(last)) + DONE

    def _frame(self, index: int) -> tuple[bytes, bytes]:
        """Return what surrounds the text in a chunk of text."""
        chunk = self._event(ChunkChoice(index=index, delta=Delta(content="")))
        # a quotation mark inside the id or the model's name would be escaped, so this is the only place it can match
        before, _, after = chunk.partition(_EMPTY_CONTENT)
        return before + _EMPTY_CONTENT.removesuffix(b'""'), after

    def _event(self, choice: ChunkChoice) -> bytes:
        return event(msgspec.json.encode(msgspec.structs.replace(self._blank, choices=(choice,))))


def _choice(index: int, piece: Piece) -> ChunkChoice:
    if isinstance(piece, Finished):
        return ChunkChoice(index=index, delta=Delta(), finish_reason=piece.reason)
    if isinstance(piece, ContentDelta):
        return ChunkChoice(index=index, delta=Delta(content=piece.text), logprobs=choice_logprobs(piece.logprobs))
    if isinstance(piece, ReasoningDelta):
        return ChunkChoice(index=index, delta=Delta(reasoning_content=piece.text))
    if isinstance(piece, ToolCallStarted):
        function = FunctionDelta(name=piece.name, arguments="")
        call = ToolCallDelta(index=piece.index, id=piece.id, type="function", function=function)
    else:
        call = ToolCallDelta(index=piece.index, function=FunctionDelta(arguments=piece.text))
    return ChunkChoice(index=index, delta=Delta(tool_calls=(call,)))


def event(data: bytes) -> bytes:
    """Frame JSON as one server-sent event. JSON as we encode it has no line ends."""
    return b"data: " + data + b"\n\n"


def model(status: ModelStatus) -> bytes:
    """Encode one model."""
    return msgspec.json.encode(_model(status))


def model_list(statuses: Iterable[ModelStatus]) -> bytes:
    """Encode a list of models."""
    return msgspec.json.encode(ModelList(data=tuple(map(_model, statuses))))


def _model(status: ModelStatus) -> Model:
    info = status.info
    return Model(
        id=info.id,
        created=info.created_unix,
        owned_by=info.publisher,
        alias=info.alias,
        cached=status.cached,
        loaded=status.loaded,
        device=info.device,
        provider=info.provider,
        context_length=info.context_length or None,
        max_output_tokens=info.max_output_tokens,
    )


def completion_usage(usage: Usage) -> CompletionUsage:
    """Describe what an answer took."""
    return CompletionUsage(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        total_tokens=usage.prompt_tokens + usage.completion_tokens,
        prompt_tokens_details=PromptTokensDetails(usage.cached_tokens),
    )


def _new_id() -> str:
    return f"chatcmpl-{uuid4().hex}"


def _now() -> int:
    return int(time.time())

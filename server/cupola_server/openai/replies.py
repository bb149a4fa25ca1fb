"""From what the engine answers to the bytes that an OpenAI client reads."""

import time
from collections.abc import Iterable
from uuid import uuid4

import msgspec

from cupola import ModelStatus, TurnFinished, Usage, WorkerError
from cupola_server.openai.schema import (
    ChatCompletion,
    ChatCompletionChunk,
    ChunkChoice,
    CompletionChoice,
    CompletionMessage,
    CompletionUsage,
    Delta,
    FinishReason,
    Model,
    ModelList,
    PromptTokensDetails,
)

DONE = b"data: [DONE]\n\n"

_EMPTY_CONTENT = b'"delta":{"content":""'


def completion(model: str, text: str, finished: TurnFinished) -> bytes:
    """Encode a whole answer."""
    choice = CompletionChoice(message=CompletionMessage(content=text), finish_reason=_finish_reason(finished))
    reply = ChatCompletion(id=_new_id(), created=_now(), model=model, choices=(choice,), usage=_usage(finished.usage))
    return msgspec.json.encode(reply)


class ChunkEncoder:
    """Encodes the chunks of one streamed answer, as server-sent events.

    All chunks of an answer are alike but for a few bytes. What surrounds the text is encoded once, so that a token
    costs the encoding of its text and nothing else.
    """

    def __init__(self, model: str, *, include_usage: bool) -> None:
        self._include_usage = include_usage
        usage = None if include_usage else msgspec.UNSET
        self._blank = ChatCompletionChunk(id=_new_id(), created=_now(), model=model, choices=(), usage=usage)
        # a quotation mark inside the id or the model's name would be escaped, so this is the only place it can match
        before, _, after = self._event(ChunkChoice(delta=Delta(content=""))).partition(_EMPTY_CONTENT)
        self._before, self._after = before + _EMPTY_CONTENT.removesuffix(b'""'), after

    def opening(self) -> bytes:
        """Return the first chunk, which names the role."""
        return self._event(ChunkChoice(delta=Delta(role="assistant", content="", refusal=None)))

    def text(self, text: str) -> bytes:
        """Return a chunk of text."""
        return self._before + msgspec.json.encode(text) + self._after

    def closing(self, finished: TurnFinished) -> bytes:
        """Return everything after the text: why it ends, what it took if that was asked for, and the end mark."""
        last = self._event(ChunkChoice(delta=Delta(), finish_reason=_finish_reason(finished)))
        if not self._include_usage:
            return last + DONE
        return (
            last + event(msgspec.json.encode(msgspec.structs.replace(self._blank, usage=_usage(finished.usage)))) + DONE
        )

    def _event(self, choice: ChunkChoice) -> bytes:
        return event(msgspec.json.encode(msgspec.structs.replace(self._blank, choices=(choice,))))


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


def _finish_reason(finished: TurnFinished) -> FinishReason:
    if finished.reason == "cancelled":
        raise WorkerError(detail="The service cancelled this answer before it was complete.")
    return finished.reason


def _usage(usage: Usage) -> CompletionUsage:
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

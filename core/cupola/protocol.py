"""The frames between the service and a worker process: frozen msgspec Structs, decoded once where they arrive."""

from typing import Any

from msgspec import Struct

from cupola.errors import WireError
from cupola.messages import ChatPrompt, Embeddings, GenerateRequest, SessionReport, TextPrompt, TurnFinished, TurnText


class TurnStarted(Struct, frozen=True, tag="started"):
    """The prompt was accepted: it is tokenized and fits the context. Nothing has been computed yet."""

    turn: int
    prompt_tokens: int


class TurnFailed(Struct, frozen=True, tag="failed"):
    """The last event of a turn that failed."""

    turn: int
    error: WireError


TurnEvent = TurnStarted | TurnText | TurnFinished | TurnFailed


class Load(Struct, frozen=True, tag="load"):
    """The first frame to a worker: which model to load, and on which provider.

    Attributes:
        plugin: Import reference of the plugin that contributes the provider, `module` or `module:attribute`.
        provider: The provider's name, such as "CPUExecutionProvider".
        model: The model's id, for messages.
        path: Absolute path of the folder with the model's files.
        device: Device type: "CPU", "GPU" or "NPU".
        device_index: Index among the provider's devices of that type.
        settings: The settings as built-in types.
    """

    plugin: str
    provider: str
    model: str
    path: str
    device: str
    device_index: int
    settings: dict[str, Any]


class Submit(Struct, frozen=True, tag="submit"):
    """Start a turn."""

    turn: int
    request: GenerateRequest


class Cancel(Struct, frozen=True, tag="cancel"):
    """Cancel a turn within one step; it still gets its `TurnFinished`. Unknown ids are ignored."""

    turn: int


class TokenizeText(Struct, frozen=True, tag="tokenize"):
    """Tokenize a prompt."""

    prompt: ChatPrompt | TextPrompt


class DetokenizeTokens(Struct, frozen=True, tag="detokenize"):
    """Decode tokens to text, including special tokens."""

    tokens: tuple[int, ...]


class EmbedTexts(Struct, frozen=True, tag="embed"):
    """Compute embedding vectors; the fields are those of `EmbedRequest`."""

    inputs: tuple[str | tuple[int, ...], ...]
    dimensions: int | None = None


class Ask(Struct, frozen=True, tag="ask"):
    """A question that the worker answers between two steps."""

    id: int
    question: TokenizeText | DetokenizeTokens | EmbedTexts


class Tokens(Struct, frozen=True, tag="tokens"):
    """The answer to `TokenizeText`."""

    tokens: tuple[int, ...]


class Text(Struct, frozen=True, tag="text"):
    """The answer to `DetokenizeTokens`."""

    text: str


class Reply(Struct, frozen=True, tag="reply"):
    """The answer to the `Ask` of the same id."""

    id: int
    answer: Tokens | Text | Embeddings | WireError


class LoadFailed(Struct, frozen=True, tag="load_failed"):
    """The worker could not load the model; it exits after this frame."""

    error: WireError


class Step(Struct, frozen=True, tag="step"):
    """The events of one step of the session, in order. Also sent when empty, as a heartbeat."""

    events: tuple[TurnEvent, ...]


ToWorker = Load | Submit | Cancel | Ask


FromWorker = SessionReport | LoadFailed | Step | Reply

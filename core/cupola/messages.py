"""What travels: the one request struct that goes down, the events that come up, and the frames of a worker's socket.

All are frozen msgspec Structs. They are decoded once, at the edge where they arrive, and trusted from there on.
"""

from typing import Any, Literal

from msgspec import Struct

from cupola.errors import WireError

FinishReason = Literal["stop", "length", "content_filter", "cancelled"]


class ToolCall(Struct, frozen=True):
    """A call that the assistant made. `arguments` is JSON text, as OpenAI's API has it."""

    id: str
    name: str
    arguments: str


class Tool(Struct, frozen=True, omit_defaults=True):
    """A function that the model may call. `parameters` is a JSON schema."""

    name: str
    description: str = ""
    parameters: dict[str, Any] = {}


class Message(Struct, frozen=True, omit_defaults=True):
    """One message of a chat, as templates see it. A tool's result has the role "tool" and names its call."""

    role: str
    content: str = ""
    name: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    reasoning_content: str | None = None


class ChatPrompt(Struct, frozen=True, tag="chat", omit_defaults=True):
    """Messages that the model's own template turns into text. The last turn is left open for the assistant.

    `template_options` are further variables of the template, such as `enable_thinking`.
    """

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    template_options: dict[str, Any] = {}


class TextPrompt(Struct, frozen=True, tag="text"):
    """Raw text to continue. Special tokens in it are plain text."""

    text: str


class TokenPrompt(Struct, frozen=True, tag="tokens"):
    """Token ids to continue, taken as they are."""

    tokens: tuple[int, ...]


class Sampling(Struct, frozen=True, omit_defaults=True):
    """How the next token is chosen. None means: as the model's own configuration says.

    Attributes:
        temperature: 0 is greedy; otherwise logits are divided by it. 0 to 2 in OpenAI's API.
        top_k: Keep the k likeliest tokens; 0 keeps all.
        top_p: Keep the smallest set of tokens whose probability reaches this (0 < p <= 1).
        min_p: Drop tokens less likely than this fraction of the likeliest one.
        repetition_penalty: Above 1 damps tokens already in prompt or answer (Keskar et al. 2019).
        presence_penalty: Subtracted once from the logit of every token already in the answer.
        frequency_penalty: Subtracted per occurrence in the answer.
        logit_bias: Added to the logits of these token ids.
        seed: Same seed, same prompt, same text. None draws a fresh one.
    """

    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float = 0.0
    repetition_penalty: float | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: dict[int, float] = {}
    seed: int | None = None


class Guidance(Struct, frozen=True):
    """What an answer must conform to.

    Attributes:
        kind: How to read `text`.
        text: A JSON schema, a regular expression, a Lark grammar in llguidance's dialect, a JSON list of the strings
            to choose from; not used by "json_object".
        param: The request's field that asked for it, for errors.
    """

    kind: Literal["json_object", "json_schema", "regex", "lark", "choice"]
    text: str = ""
    param: str = "response_format"


class ToolUse(Struct, frozen=True, omit_defaults=True):
    """How the prompt's tools may be used, for models elsewhere; for those here, template and guidance say it.

    Attributes:
        choice: Whether the model may, must or must not call.
        only: The one function that it must call.
        parallel: Whether it may call several at once.
        strict: Functions whose arguments must conform to their schema.
    """

    choice: Literal["auto", "none", "required"] = "auto"
    only: str | None = None
    parallel: bool = True
    strict: tuple[str, ...] = ()


class GenerateRequest(Struct, frozen=True, omit_defaults=True):
    """One turn, as a front-end asks for it.

    Attributes:
        model: Id, id without version, or alias.
        prompt: What to answer or to continue.
        max_tokens: Upper bound of the answer, in tokens; None means: up to the end of the context.
        min_tokens: No end-of-sequence token and no stop token is chosen before so many tokens.
        stop: Strings that end the answer; they are not part of it.
        stop_token_ids: Tokens that end the answer, beside the model's own; they are not part of it.
        ignore_eos: Go on past the model's end-of-sequence tokens.
        special_tokens: Whether special tokens of the answer are part of its text; otherwise they come out as nothing.
        guidance: What the answer must conform to.
        top_logprobs: Report log probabilities, with so many alternatives at each position; None reports none.
        ttl_s: Unload the model when idle for this long after this turn; None keeps what is set.
        provider: Run it on this execution provider, by its whole or short name; one loaded elsewhere moves.
        tool_use: How tools may be used. Workers do not look at it.
        reasoning_effort: How much a model elsewhere should think. Workers do not look at it.
    """

    model: str
    prompt: ChatPrompt | TextPrompt | TokenPrompt
    sampling: Sampling = Sampling()
    max_tokens: int | None = None
    min_tokens: int = 0
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    special_tokens: bool = False
    guidance: Guidance | None = None
    top_logprobs: int | None = None
    ttl_s: float | None = None
    provider: str | None = None
    tool_use: ToolUse | None = None
    reasoning_effort: str | None = None


class EmbedRequest(Struct, frozen=True, omit_defaults=True):
    """Texts to turn into vectors.

    Attributes:
        model: Id, id without version, or alias of an embedding model.
        inputs: Texts, or token ids taken as they are.
        dimensions: Keep so many dimensions and normalise again; None keeps the model's own number.
        ttl_s: As in `GenerateRequest`.
    """

    model: str
    inputs: tuple[str | tuple[int, ...], ...]
    dimensions: int | None = None
    ttl_s: float | None = None


class Embeddings(Struct, frozen=True, tag="embeddings"):
    """One vector per input, each as little-endian float32, and what the inputs took."""

    vectors: tuple[bytes, ...]
    prompt_tokens: int


class Usage(Struct, frozen=True):
    """Token counts of a turn. `cached_tokens` of the prompt were in the KV cache already."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0


class TurnStarted(Struct, frozen=True, tag="started"):
    """The prompt was accepted: it is tokenized and fits. Nothing was computed yet."""

    turn: int
    prompt_tokens: int


class TokenLogprob(Struct, frozen=True):
    """The log probability of one token of an answer, in the model's own distribution before any sampling option.

    Attributes:
        token: Its bytes; not always whole characters.
        logprob: Natural logarithm.
        top: The likeliest tokens at this position, best first.
    """

    token: bytes
    logprob: float
    top: tuple[tuple[bytes, float], ...] = ()


class TurnText(Struct, frozen=True, tag="text", omit_defaults=True):
    """More of the answer. `tokens` were needed for it; text may lag behind them (UTF-8, stop strings).

    `logprobs` has one entry per token when the request asked for it.
    """

    turn: int
    text: str
    tokens: int
    logprobs: tuple[TokenLogprob, ...] = ()


class TurnReasoning(Struct, frozen=True, tag="reasoning"):
    """More of what a model elsewhere thought before it answered. Models here leave it in the text."""

    turn: int
    text: str


class TurnCall(Struct, frozen=True, tag="call", omit_defaults=True):
    """A piece of a function call by a model elsewhere. Models here leave calls in the text.

    `index` counts the calls of the answer. A call's first piece has its name; arguments are JSON text.
    """

    turn: int
    index: int
    name: str = ""
    arguments: str = ""


class TurnFinished(Struct, frozen=True, tag="finished", omit_defaults=True):
    """The turn's last event. `stopped_by` is the stop string or token that ended it, if one of the request's did."""

    turn: int
    reason: FinishReason
    usage: Usage
    stopped_by: str | int | None = None


class TurnFailed(Struct, frozen=True, tag="failed"):
    """The turn's last event, when it failed."""

    turn: int
    error: WireError


TurnEvent = TurnStarted | TurnText | TurnFinished | TurnFailed


class Load(Struct, frozen=True, tag="load"):
    """First frame to a worker: what to load, with what. The path is absolute.

    Attributes:
        plugin: Import reference of the plugin that brings the provider, `module` or `module:attribute`.
        provider: The provider's name, for instance "CPUExecutionProvider".
        model: The model's id, for messages.
        path: Folder of the model's files.
        device: Device type, and index among devices of that type.
        settings: The service's settings as plain values.
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
    """End a turn within one step; it still gets its `TurnFinished`. Unknown turns are ignored."""

    turn: int


class TokenizeText(Struct, frozen=True, tag="tokenize"):
    """Ask for the tokens of a prompt."""

    prompt: ChatPrompt | TextPrompt


class DetokenizeTokens(Struct, frozen=True, tag="detokenize"):
    """Ask for the text of tokens, special ones included."""

    tokens: tuple[int, ...]


class EmbedTexts(Struct, frozen=True, tag="embed"):
    """Ask for vectors."""

    inputs: tuple[str | tuple[int, ...], ...]
    dimensions: int | None = None


class Ask(Struct, frozen=True, tag="ask"):
    """A question that is answered at once, between two steps."""

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


class SessionReport(Struct, frozen=True, tag="ready"):
    """A loaded model, as its worker describes it.

    Attributes:
        kind: "slots", "paged", "generator" or "embedding"; "external" for a model elsewhere, which tells calls and
            reasoning apart itself.
        reason: Why this kind of session was chosen.
        capacity: Turns that can share a step.
        context_length: In tokens.
        threads: Compute threads; 0 where the provider does not say.
        provider: The provider that runs it: `nodes` says how much of it.
        layout: How the weights are stored, "int8-rows" or "int4-blocks"; empty where nothing says so.
        template: The chat template's source, for who must know how the model writes tool calls; empty without one.
        nodes: How many nodes of its graph each ONNX Runtime execution provider took; empty where nobody knows.
        fallback: `provider` took a smaller share of them than asked for, and that is allowed.
        load_s: How long loading took.
        resident_bytes: The worker's memory after loading.
    """

    kind: str
    reason: str
    capacity: int
    context_length: int
    threads: int
    provider: str
    load_s: float
    resident_bytes: int
    layout: str = ""
    template: str = ""
    nodes: dict[str, int] = {}
    fallback: bool = False


class LoadFailed(Struct, frozen=True, tag="load_failed"):
    """The worker could not load; it ends after this."""

    error: WireError


class Step(Struct, frozen=True, tag="step"):
    """One step of the session: the events of every turn, in order. Sent even when empty, as a sign of life."""

    events: tuple[TurnEvent, ...]


ToWorker = Load | Submit | Cancel | Ask
FromWorker = SessionReport | LoadFailed | Step | Reply

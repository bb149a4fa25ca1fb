"""Requests and the events of an answer, shared by front-ends, the engine and worker processes.

All are frozen msgspec Structs. Each is validated once, when it is decoded at the boundary where it arrives.
"""

from typing import Any, Literal

from msgspec import Struct

FinishReason = Literal["stop", "length", "content_filter", "cancelled"]


class ToolCall(Struct, frozen=True):
    """A function call made by the assistant. `arguments` is JSON text, as in OpenAI's API."""

    id: str
    name: str
    arguments: str


class Tool(Struct, frozen=True, omit_defaults=True):
    """A function that the model may call. `parameters` is a JSON Schema object."""

    name: str
    description: str = ""
    parameters: dict[str, Any] = {}


class Message(Struct, frozen=True, omit_defaults=True):
    """One chat message, in the form that chat templates expect.

    Attributes:
        role: "system", "user", "assistant", "tool" or another role that the template knows.
        content: The text; "" for an assistant message that only calls tools.
        name: The name of the participant or of the tool, where the template uses one.
        tool_calls: Calls that this assistant message made.
        tool_call_id: The call that a message of role "tool" answers.
        reasoning_content: The reasoning of an earlier assistant message, without its markers.
    """

    role: str
    content: str = ""
    name: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    reasoning_content: str | None = None


class ChatPrompt(Struct, frozen=True, tag="chat", omit_defaults=True):
    """Messages to render with the model's chat template, followed by the start of the assistant's message.

    Attributes:
        messages: The conversation, oldest first.
        tools: The functions that the template lists for the model.
        template_options: Further variables of the template, such as `enable_thinking`.
    """

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    template_options: dict[str, Any] = {}


class TextPrompt(Struct, frozen=True, tag="text"):
    """Raw text to continue. The names of special tokens in it are tokenized as plain text."""

    text: str


class TokenPrompt(Struct, frozen=True, tag="tokens"):
    """Token ids to continue, used unchanged."""

    tokens: tuple[int, ...]


class Sampling(Struct, frozen=True, omit_defaults=True):
    """How the next token is chosen. None takes the default of the model's configuration.

    Attributes:
        temperature: Divides the logits; 0 is greedy decoding. OpenAI's API allows 0 to 2.
        top_k: Keep the k most likely tokens; 0 keeps all.
        top_p: Keep the smallest set of most likely tokens whose probabilities sum to at least this, in (0, 1]
            (nucleus sampling, Holtzman et al. 2020).
        min_p: Drop tokens less likely than this fraction of the most likely token's probability, in [0, 1].
        repetition_penalty: Above 1 makes tokens of the prompt and the answer less likely (CTRL, Keskar et al. 2019).
        presence_penalty: Subtracted once from the logit of every token that the answer already contains.
        frequency_penalty: Subtracted from a token's logit once per occurrence in the answer.
        logit_bias: Added to the logits, by token id.
        seed: The same seed and prompt give the same text. None draws a random seed.
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
    """A grammar that constrains the answer.

    Attributes:
        kind: The format of `text`.
        text: A JSON schema, a regular expression, a Lark grammar in llguidance's dialect, or a JSON list of the
            strings to choose from; unused for "json_object".
        param: The request field it came from, named in error messages.
    """

    kind: Literal["json_object", "json_schema", "regex", "lark", "choice"]
    text: str = ""
    param: str = "response_format"


class ToolUse(Struct, frozen=True, omit_defaults=True):
    """How the prompt's tools may be used. Only external models read it; local ones get it as template and guidance.

    Attributes:
        choice: Whether the model may, must not or must call a function.
        only: The one function that must be called; None allows any.
        parallel: Whether one answer may contain several calls.
        strict: The names of functions whose arguments must match their schema.
    """

    choice: Literal["auto", "none", "required"] = "auto"
    only: str | None = None
    parallel: bool = True
    strict: tuple[str, ...] = ()


class GenerateRequest(Struct, frozen=True, omit_defaults=True):
    """A request for one turn, the same for all front-ends.

    Attributes:
        model: Id, id without version, or alias.
        prompt: The conversation to answer, or the text or tokens to continue.
        sampling: How tokens are chosen.
        max_tokens: Maximum length of the answer, in tokens; None allows what the context length leaves.
        min_tokens: End-of-sequence and stop tokens are suppressed until the answer has this many tokens.
        stop: Strings that end the answer; not included in its text.
        stop_token_ids: Token ids that end the answer besides the model's own; not included in its text.
        ignore_eos: Continue past end-of-sequence tokens.
        special_tokens: Include special tokens in the text; otherwise they are skipped.
        guidance: The grammar that the answer must match; None leaves it free.
        top_logprobs: Report log probabilities with this many alternatives per token, 0 for the chosen token alone;
            None reports none.
        ttl_s: Idle time in seconds after this turn before the model may be unloaded; None keeps the current value.
        provider: The execution provider to run on, by full or short name. A model loaded on another one is reloaded.
        tool_use: How tools may be used. Only external models read it.
        reasoning_effort: How much to reason. Only external models read it.
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
    """A request for embedding vectors.

    Attributes:
        model: Id, id without version, or alias of an embedding model.
        inputs: Texts, or token ids to use unchanged.
        dimensions: Truncate the vectors to this length and normalise them again; None keeps the model's length.
        ttl_s: As in `GenerateRequest`.
    """

    model: str
    inputs: tuple[str | tuple[int, ...], ...]
    dimensions: int | None = None
    ttl_s: float | None = None


class Embeddings(Struct, frozen=True, tag="embeddings"):
    """The result of an `EmbedRequest`.

    Attributes:
        vectors: One per input, in order: `dimensions` little-endian float32 values of L2 norm 1.
        prompt_tokens: The number of tokens of all inputs together.
    """

    vectors: tuple[bytes, ...]
    prompt_tokens: int


class Usage(Struct, frozen=True):
    """Token counts of a turn. `cached_tokens` of the prompt tokens were already in the KV cache."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0


class TokenLogprob(Struct, frozen=True):
    """The log probability of one token of the answer, under the model's distribution before sampling options apply.

    Attributes:
        token: The token's bytes, which need not be a whole UTF-8 character.
        logprob: Natural logarithm of its probability.
        top: The most likely tokens at this position with their log probabilities, best first.
    """

    token: bytes
    logprob: float
    top: tuple[tuple[bytes, float], ...] = ()


class TurnText(Struct, frozen=True, tag="text", omit_defaults=True):
    """More text of the answer.

    Attributes:
        turn: The turn's id.
        text: New text. It may lag behind the tokens while a character or a possible stop string is incomplete.
        tokens: The number of tokens generated for it.
        logprobs: One entry per token if the request asked for log probabilities.
    """

    turn: int
    text: str
    tokens: int
    logprobs: tuple[TokenLogprob, ...] = ()


class TurnReasoning(Struct, frozen=True, tag="reasoning"):
    """More reasoning of an external model. Local models leave reasoning in the text."""

    turn: int
    text: str


class TurnCall(Struct, frozen=True, tag="call", omit_defaults=True):
    """Part of a function call by an external model. Local models leave calls in the text.

    Attributes:
        turn: The turn's id.
        index: The position of the call among the calls of the answer, from 0.
        name: The function's name; only the first part of a call has it.
        arguments: More JSON text of the arguments.
    """

    turn: int
    index: int
    name: str = ""
    arguments: str = ""


class TurnFinished(Struct, frozen=True, tag="finished", omit_defaults=True):
    """The last event of a turn.

    Attributes:
        turn: The turn's id.
        reason: Why the answer ended.
        usage: Token counts of the turn.
        stopped_by: The stop string or stop token id of the request that ended the answer; None if none did.
    """

    turn: int
    reason: FinishReason
    usage: Usage
    stopped_by: str | int | None = None


class SessionReport(Struct, frozen=True, tag="ready"):
    """A loaded model, as described by its worker.

    Attributes:
        kind: "slots", "paged", "generator" or "embedding"; "external" for an external model, which separates calls
            and reasoning from the text itself.
        reason: Why this kind of session was chosen.
        capacity: How many turns can share a step.
        context_length: In tokens.
        threads: Compute threads; 0 if the provider does not report them.
        provider: The execution provider that runs it; `nodes` tells how much of it.
        load_s: Loading time in seconds.
        resident_bytes: The worker's resident memory after loading.
        layout: The storage format of the weights, such as "int8-rows" or "int4-blocks"; empty if unknown.
        template: The source of the chat template, from which front-ends derive the format of tool calls; may be empty.
        nodes: How many nodes of the graph ONNX Runtime assigned to each execution provider; empty if unknown.
        fallback: `provider` took fewer nodes than `models.min_provider_share` asks for, and settings allow that.
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

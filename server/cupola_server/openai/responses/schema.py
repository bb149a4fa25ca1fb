"""The requests of the Responses API: bodies and query parameters."""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field
from msgspec.structs import asdict

from cupola_server.openai.responses.items import Role, Status
from cupola_server.openai.schema.fields import Text, TokenCount

Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
Includable = Literal[
    "code_interpreter_call.outputs",
    "computer_call_output.output.image_url",
    "file_search_call.results",
    "message.input_image.image_url",
    "message.output_text.logprobs",
    "reasoning.encrypted_content",
    "web_search_call.action.sources",
    "web_search_call.results",
]
Metadata = Annotated[
    dict[Annotated[str, Meta(max_length=64)], Annotated[str, Meta(max_length=512)]], Meta(max_length=16)
]


class InputTextPart(Struct, tag_field="type", tag="input_text", forbid_unknown_fields=True):
    """Text. `prompt_cache_breakpoint` is a hint for OpenAI's cache and is ignored."""

    text: str
    prompt_cache_breakpoint: object = None


class OutputTextPart(Struct, tag_field="type", tag="output_text", forbid_unknown_fields=True):
    """Text of an earlier answer. Only the text is used."""

    text: str
    annotations: object = None
    logprobs: object = None


class RefusalPart(Struct, tag_field="type", tag="refusal", forbid_unknown_fields=True):
    """A refusal of the assistant, in place of an answer."""

    refusal: str


class ImagePart(Struct, tag_field="type", tag="input_image"):
    """An image, which is not supported."""


class FilePart(Struct, tag_field="type", tag="input_file"):
    """A file, which is not supported."""


class AudioPart(Struct, tag_field="type", tag="input_audio"):
    """Audio, which is not supported."""


class ReasoningTextPart(Struct, tag_field="type", tag="reasoning_text", forbid_unknown_fields=True):
    """Reasoning of an earlier answer."""

    text: str


class SummaryTextPart(Struct, tag_field="type", tag="summary_text", forbid_unknown_fields=True):
    """A summary of reasoning."""

    text: str


ContentPart = InputTextPart | OutputTextPart | RefusalPart | ImagePart | FilePart | AudioPart
OutputPart = InputTextPart | ImagePart | FilePart


class MessageInput(Struct, tag_field="type", tag="message", kw_only=True, forbid_unknown_fields=True):
    """A message of any role. `phase`, which marks commentary, is not used."""

    role: Role
    content: str | list[ContentPart]
    id: str | None = None
    status: Status | None = None
    phase: Literal["commentary", "final_answer"] | None = None


class FunctionCallInput(Struct, tag_field="type", tag="function_call", kw_only=True, forbid_unknown_fields=True):
    """An earlier function call. The fields after `status` are for hosted tools and are not used."""

    call_id: Text
    name: Text
    arguments: str
    id: str | None = None
    status: Status | None = None
    caller: object = None
    namespace: None = None
    is_async: None = field(name="async", default=None)


class FunctionCallOutputInput(
    Struct, tag_field="type", tag="function_call_output", kw_only=True, forbid_unknown_fields=True
):
    """The result of an earlier function call."""

    call_id: Text
    output: str | list[OutputPart]
    id: str | None = None
    status: Status | None = None
    caller: object = None
    name: str | None = None
    namespace: None = None


class ReasoningInput(Struct, tag_field="type", tag="reasoning", kw_only=True, forbid_unknown_fields=True):
    """Reasoning of an earlier answer. `encrypted_content` is never written by this service, so it is not read."""

    id: str | None = None
    summary: list[SummaryTextPart] = []
    content: list[ReasoningTextPart] | None = None
    encrypted_content: None = None
    status: Status | None = None


InputItem = MessageInput | FunctionCallInput | FunctionCallOutputInput | ReasoningInput


class FunctionTool(Struct, tag_field="type", tag="function", kw_only=True, forbid_unknown_fields=True):
    """A function that the model may call. `strict`, true by default, enforces the schema of its arguments."""

    name: Annotated[str, Meta(min_length=1, max_length=64, pattern="^[a-zA-Z0-9_-]+$")]
    parameters: dict[str, Any] | None = None
    strict: bool | None = None
    description: str | None = None
    defer_loading: bool | None = None
    allowed_callers: list[str] | None = None
    output_schema: None = None
    is_async: bool | None = field(name="async", default=None)


class FunctionChoice(Struct, tag_field="type", tag="function", forbid_unknown_fields=True):
    """Requires a call of this function."""

    name: str


class AllowedTools(Struct, tag_field="type", tag="allowed_tools", forbid_unknown_fields=True):
    """Restricts calls to a subset of the functions."""

    mode: Literal["auto", "required"]
    tools: Annotated[list[FunctionChoice], Meta(min_length=1)]


ChoiceMode = Literal["none", "auto", "required"]
ToolChoice = ChoiceMode | FunctionChoice | AllowedTools


class TextFormat(Struct, tag_field="type", tag="text", forbid_unknown_fields=True):
    """Plain text."""


class JsonObjectFormat(Struct, tag_field="type", tag="json_object", forbid_unknown_fields=True):
    """Any JSON object."""


class JsonSchemaFormat(Struct, tag_field="type", tag="json_schema", kw_only=True, forbid_unknown_fields=True):
    """JSON that matches a schema."""

    name: Annotated[str, Meta(min_length=1, max_length=64, pattern="^[a-zA-Z0-9_-]+$")]
    schema: dict[str, Any]
    description: str | None = None
    strict: bool | None = None


Format = TextFormat | JsonObjectFormat | JsonSchemaFormat


class TextConfig(Struct, kw_only=True, forbid_unknown_fields=True):
    """The format of the answer's text. Its verbosity cannot be controlled."""

    format: Format | None = None
    verbosity: str | None = None


class ReasoningConfig(Struct, kw_only=True, forbid_unknown_fields=True):
    """The reasoning effort. Reasoning is returned in full and never summarized."""

    effort: Effort | None = None
    summary: str | None = None
    generate_summary: str | None = None
    context: str | None = None
    mode: str | None = None


class StreamOptions(Struct, kw_only=True, forbid_unknown_fields=True):
    """Options of a stream. `include_obfuscation` must be false, because events are never padded."""

    include_obfuscation: bool | None = None


class ResponseRequest(Struct, kw_only=True, forbid_unknown_fields=True):
    """The body of POST /v1/responses: every field that OpenAI documents.

    No field is ignored silently. A field is supported, or accepted without effect, or rejected by name with a reason
    unless it has its default value. Unknown fields are errors.

    Supported as OpenAI documents them: the fields from `model` to `include`.

    Accepted without effect, because a local service neither bills nor tracks nor retains: `user`, `safety_identifier`,
    `prompt_cache_key`, `service_tier` as "auto" or "default", `prompt_cache_retention` as "in_memory", and
    `max_tool_calls`, which limits only hosted tools.
    """

    model: Text
    input: str | Annotated[list[InputItem], Meta(min_length=1)]
    instructions: str | None = None
    previous_response_id: str | None = None
    store: bool | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    background: bool | None = None
    metadata: Metadata | None = None
    tools: list[FunctionTool] | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    text: TextConfig | None = None
    reasoning: ReasoningConfig | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    max_output_tokens: TokenCount | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    truncation: Literal["auto", "disabled"] | None = None
    include: list[Includable] | None = None

    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    max_tool_calls: Annotated[int, Meta(ge=1)] | None = None
    service_tier: str | None = None
    prompt_cache_retention: str | None = None

    access_programs: object = None
    background_options: object = None
    context_management: object = None
    conversation: object = None
    image: object = None
    moderation: object = None
    prompt: object = None
    prompt_cache_options: object = None


class InputTokensRequest(Struct, kw_only=True, forbid_unknown_fields=True):
    """The body of POST /v1/responses/input_tokens: the fields of a request that determine its prompt."""

    model: Text
    input: str | Annotated[list[InputItem], Meta(min_length=1)]
    instructions: str | None = None
    previous_response_id: str | None = None
    tools: list[FunctionTool] | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    text: TextConfig | None = None
    reasoning: ReasoningConfig | None = None
    truncation: Literal["auto", "disabled"] | None = None
    conversation: object = None
    personality: object = None

    def as_request(self) -> ResponseRequest:
        """Return the request whose prompt is counted. Fields without a counterpart are checked in `params`."""
        return ResponseRequest(**{name: value for name, value in asdict(self).items() if name != "personality"})


class RetrieveQuery(Struct, kw_only=True, forbid_unknown_fields=True):
    """The parameters of GET /v1/responses/{id}. A stored response is not streamed again."""

    include: list[Includable] = []
    include_obfuscation: bool | None = None
    starting_after: int | None = None
    stream: bool | None = None


class InputItemsQuery(Struct, kw_only=True, forbid_unknown_fields=True):
    """The parameters of GET /v1/responses/{id}/input_items."""

    limit: Annotated[int, Meta(ge=1, le=100)] = 20
    order: Literal["asc", "desc"] = "desc"
    after: str | None = None
    include: list[Includable] = []

"""Field types that several requests share, including those of structured outputs."""

from typing import Annotated, Any

from msgspec import Meta, Struct, field

INT64 = 2**63

TokenCount = Annotated[int, Meta(ge=1, le=2**31 - 1)]
TokenId = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
Text = Annotated[str, Meta(min_length=1)]


Schema = dict[str, Any] | bool


class TextFormat(Struct, tag_field="type", tag="text", forbid_unknown_fields=True):
    """Any text."""


class JsonObjectFormat(Struct, tag_field="type", tag="json_object", forbid_unknown_fields=True):
    """Any JSON object."""


class NamedSchema(Struct, kw_only=True, forbid_unknown_fields=True):
    """A JSON schema. It is always enforced, with or without `strict`."""

    name: Annotated[str, Meta(pattern="^[a-zA-Z0-9_-]{1,64}$")]
    description: str | None = None
    json_schema: dict[str, Any] | None = field(default=None, name="schema")
    strict: bool | None = None


class JsonSchemaFormat(Struct, tag_field="type", tag="json_schema", forbid_unknown_fields=True):
    """JSON that matches a schema."""

    json_schema: NamedSchema


ResponseFormat = TextFormat | JsonObjectFormat | JsonSchemaFormat
Choices = Annotated[list[Text], Meta(min_length=1)]


class StructuredOutputs(Struct, kw_only=True, forbid_unknown_fields=True):
    """vLLM's format: exactly one of these. `grammar` is Lark in llguidance's dialect."""

    json: Schema | str | None = None
    regex: Text | None = None
    choice: Choices | None = None
    grammar: Text | None = None
    json_object: bool | None = None

"""The messages of a chat, as clients send them."""

from typing import Annotated

from msgspec import Meta, Struct

from cupola_server.openai.schema.fields import Text
from cupola_server.openai.schema.tools import CalledFunction


class TextPart(Struct, tag_field="type", tag="text", forbid_unknown_fields=True):
    """Text. `prompt_cache_breakpoint` is a hint for OpenAI's cache and means nothing here."""

    text: str
    prompt_cache_breakpoint: object = None


class RefusalPart(Struct, tag_field="type", tag="refusal", forbid_unknown_fields=True):
    """What an assistant said instead of an answer."""

    refusal: str


class ImagePart(Struct, tag_field="type", tag="image_url"):
    """Known, and refused: no model here sees."""


class AudioPart(Struct, tag_field="type", tag="input_audio"):
    """Known, and refused: no model here hears."""


class FilePart(Struct, tag_field="type", tag="file"):
    """Known, and refused: no model here reads files."""


Part = TextPart | RefusalPart | ImagePart | AudioPart | FilePart
Content = str | Annotated[list[Part], Meta(min_length=1)]


class SystemMessage(Struct, tag_field="role", tag="system", forbid_unknown_fields=True):
    """Instructions. Several text parts are joined by line ends, here and in the other messages."""

    content: Content
    name: str | None = None


class DeveloperMessage(Struct, tag_field="role", tag="developer", forbid_unknown_fields=True):
    """Instructions under their newer name; templates get them as "system"."""

    content: Content
    name: str | None = None


class UserMessage(Struct, tag_field="role", tag="user", forbid_unknown_fields=True):
    """What the user said."""

    content: Content
    name: str | None = None


class AssistantToolCall(Struct, tag_field="type", tag="function", forbid_unknown_fields=True):
    """A call that the model made."""

    id: Text
    function: CalledFunction


class AssistantCustomCall(Struct, tag_field="type", tag="custom"):
    """Known, and refused as custom tools are."""


class AssistantMessage(Struct, tag_field="role", tag="assistant", forbid_unknown_fields=True):
    """What the model said before. Clients send replies back whole, so that fields of replies are known here too.

    `refusal` stands in for a missing `content`; `annotations` mean nothing to a model and are not used.
    """

    content: Content | None = None
    name: str | None = None
    refusal: str | None = None
    annotations: object = None
    audio: object = None
    function_call: object = None
    tool_calls: list[AssistantToolCall | AssistantCustomCall] | None = None
    reasoning_content: str | None = None


class ToolMessage(Struct, tag_field="role", tag="tool", forbid_unknown_fields=True):
    """What a function that the model called returned."""

    content: Content
    tool_call_id: str
    name: str | None = None


class FunctionMessage(Struct, tag_field="role", tag="function"):
    """The result of a function, the older form of `ToolMessage`: known, and refused."""


ChatMessage = SystemMessage | DeveloperMessage | UserMessage | AssistantMessage | ToolMessage | FunctionMessage

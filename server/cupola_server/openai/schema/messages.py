"""The messages of a chat request."""

from typing import Annotated

from msgspec import Meta, Struct

from cupola_server.openai.schema.fields import Text
from cupola_server.openai.schema.tools import CalledFunction


class TextPart(Struct, tag_field="type", tag="text", forbid_unknown_fields=True):
    """Text. `prompt_cache_breakpoint` is a hint for OpenAI's cache and is ignored."""

    text: str
    prompt_cache_breakpoint: object = None


class RefusalPart(Struct, tag_field="type", tag="refusal", forbid_unknown_fields=True):
    """An assistant's refusal."""

    refusal: str


class ImagePart(Struct, tag_field="type", tag="image_url"):
    """An image, which is not supported."""


class AudioPart(Struct, tag_field="type", tag="input_audio"):
    """Audio, which is not supported."""


class FilePart(Struct, tag_field="type", tag="file"):
    """A file, which is not supported."""


Part = TextPart | RefusalPart | ImagePart | AudioPart | FilePart
Content = str | Annotated[list[Part], Meta(min_length=1)]


class SystemMessage(Struct, tag_field="role", tag="system", forbid_unknown_fields=True):
    """A system message. As in other messages, text parts are joined by newlines."""

    content: Content
    name: str | None = None


class DeveloperMessage(Struct, tag_field="role", tag="developer", forbid_unknown_fields=True):
    """A developer message, which templates receive as "system"."""

    content: Content
    name: str | None = None


class UserMessage(Struct, tag_field="role", tag="user", forbid_unknown_fields=True):
    """A user message."""

    content: Content
    name: str | None = None


class AssistantToolCall(Struct, tag_field="type", tag="function", forbid_unknown_fields=True):
    """A function call that the model made."""

    id: Text
    function: CalledFunction


class AssistantCustomCall(Struct, tag_field="type", tag="custom"):
    """A custom tool, which is not supported."""


class AssistantMessage(Struct, tag_field="role", tag="assistant", forbid_unknown_fields=True):
    """An earlier answer of the model. Clients send complete replies back, so fields of replies are accepted as well.

    `refusal` replaces a missing `content`; `annotations` are not used.
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
    """The result of a function call."""

    content: Content
    tool_call_id: str
    name: str | None = None


class FunctionMessage(Struct, tag_field="role", tag="function"):
    """The older form of `ToolMessage`, which is not supported."""


ChatMessage = SystemMessage | DeveloperMessage | UserMessage | AssistantMessage | ToolMessage | FunctionMessage

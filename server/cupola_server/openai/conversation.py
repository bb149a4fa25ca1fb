"""Translates OpenAI's messages to the engine's."""

from collections.abc import Sequence

from cupola.frontend import Message, ToolCall
from cupola_server.openai.errors import FieldError, unsupported
from cupola_server.openai.schema.messages import (
    AssistantCustomCall,
    AssistantMessage,
    AssistantToolCall,
    ChatMessage,
    Content,
    FunctionMessage,
    Part,
    RefusalPart,
    TextPart,
    ToolMessage,
)

TEXT_ONLY = "only text is supported"
NO_FUNCTIONS = "it was replaced by tools; use 'tools', 'tool_choice' and messages with the role 'tool'"
NO_CUSTOM_TOOLS = "custom tools are not supported; use tools of type 'function'"


def to_messages(messages: Sequence[ChatMessage]) -> tuple[Message, ...]:
    """Translate a conversation.

    Raises:
        FieldError: A message is invalid or not supported.
    """
    translated = tuple(_message(message, f"messages[{i}]") for i, message in enumerate(messages))
    called: set[str] = set()
    for i, message in enumerate(translated):
        called.update(call.id for call in message.tool_calls)
        if message.role == "tool" and message.tool_call_id not in called:
            param = f"messages[{i}].tool_call_id"
            detail = f"'{param}' matches no tool call in an earlier assistant message."
            raise FieldError(param=param, code="invalid_value", detail=detail)
    return translated


def _message(message: ChatMessage, where: str) -> Message:
    role = str(message.__struct_config__.tag)
    if isinstance(message, FunctionMessage):
        raise unsupported(f"{where}.role", NO_FUNCTIONS)
    if isinstance(message, AssistantMessage):
        return _assistant(message, where)
    text = _text(message.content, f"{where}.content")
    if isinstance(message, ToolMessage):
        return Message(role, text, message.name, tool_call_id=message.tool_call_id)
    return Message("system" if role == "developer" else role, text, message.name)


def _assistant(message: AssistantMessage, where: str) -> Message:
    for name, reason in (("function_call", NO_FUNCTIONS), ("audio", TEXT_ONLY)):
        if getattr(message, name) is not None:
            raise unsupported(f"{where}.{name}", reason)
    if message.content and message.refusal:
        raise unsupported(f"{where}.refusal", "an assistant message has either 'content' or 'refusal'")
    if message.content is None and message.refusal is None and not message.tool_calls:
        detail = f"'{where}.content' is missing. An assistant message needs 'content', 'refusal' or 'tool_calls'."
        raise FieldError(param=f"{where}.content", code="missing_required_parameter", detail=detail)
    return Message(
        "assistant",
        _text(message.content or message.refusal or "", f"{where}.content", refusals=True),
        message.name,
        tuple(_call(call, f"{where}.tool_calls[{i}]") for i, call in enumerate(message.tool_calls or ())),
        reasoning_content=message.reasoning_content,
    )


def _call(call: AssistantToolCall | AssistantCustomCall, where: str) -> ToolCall:
    if isinstance(call, AssistantCustomCall):
        raise unsupported(f"{where}.type", NO_CUSTOM_TOOLS)
    return ToolCall(call.id, call.function.name, call.function.arguments)


def _text(content: Content, where: str, *, refusals: bool = False) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(_part_text(part, f"{where}[{i}]", refusals) for i, part in enumerate(content))


def _part_text(part: Part, where: str, refusals: bool) -> str:
    if isinstance(part, TextPart):
        return part.text
    if isinstance(part, RefusalPart) and refusals:
        return part.refusal
    kind = part.__struct_config__.tag
    raise unsupported(f"{where}.type", f"{kind!r} content is not supported, only text")

"""From the items of a conversation to the messages that templates know."""

from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from cupola.frontend import Message, ToolCall
from cupola_server.openai.errors import FieldError
from cupola_server.openai.responses import items
from cupola_server.openai.responses.items import FunctionCall, FunctionCallOutput, Item, Refusal


def to_messages(instructions: str | None, conversation: Sequence[Item]) -> tuple[Message, ...]:
    """Return the messages of a conversation.

    What an assistant thought, said and called in one go is one message. Instructions and the system's messages at
    the beginning are one as well, because many templates know of one alone.

    Raises:
        FieldError: A function's output belongs to no call.
    """
    _check_calls(conversation)
    messages: list[Message] = [Message("system", instructions)] if instructions else []
    for item in conversation:
        message = _message(item)
        if messages and (joined := _joined(messages[-1], message, first=len(messages) == 1)):
            messages[-1] = joined
        else:
            messages.append(message)
    return tuple(messages)


def _message(item: Item) -> Message:
    if isinstance(item, items.Message):
        role = "system" if item.role == "developer" else item.role
        return Message(role, _lines(p.refusal if isinstance(p, Refusal) else p.text for p in item.content))
    if isinstance(item, FunctionCall):
        return Message("assistant", tool_calls=(ToolCall(item.call_id, item.name, item.arguments),))
    if isinstance(item, FunctionCallOutput):
        output = item.output if isinstance(item.output, str) else _lines(part.text for part in item.output)
        return Message("tool", output, tool_call_id=item.call_id)
    return Message("assistant", reasoning_content=_lines(part.text for part in item.content or item.summary))


def _joined(last: Message, message: Message, *, first: bool) -> Message | None:
    """Return two messages as one; None if they are two."""
    if last.role == message.role == "system" and first:
        return replace(last, content=f"{last.content}\n\n{message.content}")
    if last.role != "assistant" or message.role != "assistant":
        return None
    if message.tool_calls:
        return replace(last, tool_calls=(*last.tool_calls, *message.tool_calls))
    if message.reasoning_content is None and not last.content and not last.tool_calls:
        return replace(last, content=message.content)
    return None


def _check_calls(conversation: Sequence[Item]) -> None:
    called = set()
    for item in conversation:
        if isinstance(item, FunctionCall):
            called.add(item.call_id)
        elif isinstance(item, FunctionCallOutput) and item.call_id not in called:
            detail = f"No function call found for the function call output with call_id '{item.call_id[:80]}'."
            raise FieldError(param="input", code="invalid_value", detail=detail)


def _lines(texts: Iterable[str]) -> str:
    return "\n".join(texts)

"""From what a client sent as input to the items of a conversation."""

import re
from typing import Any, Generic, TypeVar

import msgspec

from cupola_server.openai.decoding import BodyDecoder
from cupola_server.openai.errors import FieldError, unsupported
from cupola_server.openai.responses.growing import new_id
from cupola_server.openai.responses.items import (
    FunctionCall,
    FunctionCallOutput,
    InputText,
    Item,
    Message,
    MessagePart,
    OutputText,
    Reasoning,
    ReasoningText,
    Refusal,
    Role,
    SummaryText,
)
from cupola_server.openai.responses.schema import (
    ContentPart,
    FunctionCallInput,
    FunctionCallOutputInput,
    InputItem,
    InputTextPart,
    MessageInput,
    OutputPart,
    OutputTextPart,
    RefusalPart,
    ResponseRequest,
)

T = TypeVar("T")

# What stands before the last "type" of a field: what can be said there.
_CHOICES = {
    "input": "message, function_call, function_call_output and reasoning",
    "content": "input_text, output_text and refusal",
    "output": "input_text",
    "tools": "function, because OpenAI's own tools do not exist here",
    "format": "text, json_object and json_schema",
    "tool_choice": "function and allowed_tools",
}
_INDEX = re.compile(r"\[\d+\]")


class RequestDecoder(Generic[T]):
    """Decodes bodies that have an input. A message in it may leave its type out, as OpenAI allows."""

    def __init__(self, kind: type[T]) -> None:
        self._decoder = BodyDecoder(kind)
        self._untyped = BodyDecoder(dict[str, Any])

    def decode(self, body: bytes | bytearray) -> T:
        """Decode a body.

        Raises:
            BodyError, FieldError: As `BodyDecoder` does.
        """
        try:
            try:
                return self._decoder.decode(body)
            except FieldError as error:
                if error.code != "missing_required_parameter" or not error.param.endswith("].type"):
                    raise
            return self._decoder.decode(self._with_types(body))
        except FieldError as error:
            raise _with_choices(error) from None

    def _with_types(self, body: bytes | bytearray) -> bytes:
        fields = self._untyped.decode(body)
        for item in fields.get("input", ()):
            if isinstance(item, dict):
                item.setdefault("type", "message")
        return msgspec.json.encode(fields)


def items_of(request: ResponseRequest) -> tuple[Item, ...]:
    """Return the input as items, each with an id.

    Raises:
        FieldError: Something in it is no text.
    """
    if isinstance(request.input, str):
        return (_message("user", (InputText(request.input),)),)
    return tuple(_item(item, f"input[{i}]") for i, item in enumerate(request.input))


def _item(item: InputItem, where: str) -> Item:
    if isinstance(item, MessageInput):
        return _message(item.role, _content(item, f"{where}.content"), item.id)
    if isinstance(item, FunctionCallInput):
        return FunctionCall(
            id=item.id or new_id("fc"),
            call_id=item.call_id,
            name=item.name,
            arguments=item.arguments,
            status=item.status or "completed",
        )
    if isinstance(item, FunctionCallOutputInput):
        output = item.output
        return FunctionCallOutput(
            id=item.id or new_id("fco"),
            call_id=item.call_id,
            output=output if isinstance(output, str) else _texts(output, f"{where}.output"),
            status=item.status or "completed",
        )
    return Reasoning(
        id=item.id or new_id("rs"),
        summary=tuple(SummaryText(part.text) for part in item.summary),
        content=tuple(ReasoningText(part.text) for part in item.content or ()),
        status=item.status or "completed",
    )


def _message(role: Role, content: tuple[MessagePart, ...], id: str | None = None) -> Message:  # noqa: A002
    return Message(id=id or new_id("msg"), role=role, status="completed", content=content)


def _content(message: MessageInput, where: str) -> tuple[MessagePart, ...]:
    """Return the parts of a message. Whose text it is decides what kind of text, whatever the client called it."""
    said = message.role == "assistant"
    if isinstance(message.content, str):
        return (_text(message.content, said=said),)
    return tuple(_part(part, f"{where}[{i}]", said=said) for i, part in enumerate(message.content))


def _part(part: ContentPart, where: str, *, said: bool) -> MessagePart:
    if isinstance(part, InputTextPart | OutputTextPart):
        return _text(part.text, said=said)
    if isinstance(part, RefusalPart) and said:
        return Refusal(part.refusal)
    raise _unreadable(part, where)


def _text(text: str, *, said: bool) -> MessagePart:
    return OutputText(text=text) if said else InputText(text)


def _texts(parts: list[OutputPart], where: str) -> tuple[InputText, ...]:
    for i, part in enumerate(parts):
        if not isinstance(part, InputTextPart):
            raise _unreadable(part, f"{where}[{i}]")
    return tuple(InputText(part.text) for part in parts if isinstance(part, InputTextPart))


def _unreadable(part: ContentPart, where: str) -> FieldError:
    kind = part.__struct_config__.tag
    return unsupported(f"{where}.type", f"{kind!r} is not a kind of content that a text model can read here")


def _with_choices(error: FieldError) -> FieldError:
    parts = _INDEX.sub("", error.param).split(".")
    if error.code != "invalid_value" or parts[-1] != "type" or len(parts) == 1 or parts[-2] not in _CHOICES:
        return error
    detail = f"The value of '{error.param}' is not known here; supported are: {_CHOICES[parts[-2]]}."
    return FieldError(param=error.param, code=error.code, detail=detail)

"""Decodes the input of a request to items, and lists input items in pages."""

import re
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import msgspec

from cupola_server.openai.decoding import BodyDecoder
from cupola_server.openai.errors import FieldError, unsupported
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
    new_id,
)
from cupola_server.openai.responses.response import ItemList
from cupola_server.openai.responses.schema import (
    ContentPart,
    FunctionCallInput,
    FunctionCallOutputInput,
    InputItem,
    InputItemsQuery,
    InputTextPart,
    MessageInput,
    OutputPart,
    OutputTextPart,
    RefusalPart,
    ResponseRequest,
)

T = TypeVar("T")

# The supported values of a "type" field, by the name of the field that contains it.
_CHOICES = {
    "input": "message, function_call, function_call_output and reasoning",
    "content": "input_text, output_text and refusal",
    "output": "input_text",
    "tools": "function; OpenAI's hosted tools are not available",
    "format": "text, json_object and json_schema",
    "tool_choice": "function and allowed_tools",
}
_INDEX = re.compile(r"\[\d+\]")


class RequestDecoder(Generic[T]):
    """Decodes bodies with an input. As at OpenAI, the type of messages may be omitted."""

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


def input_items(request: ResponseRequest) -> tuple[Item, ...]:
    """Return the input as items with ids.

    Raises:
        FieldError: A part of it is not text.
    """
    if isinstance(request.input, str):
        return (_message("user", (InputText(request.input),)),)
    return tuple(_item(item, f"input[{i}]") for i, item in enumerate(request.input))


def page_of(items: Sequence[Item], query: InputItemsQuery) -> ItemList:
    """Return the requested page.

    Raises:
        FieldError: `after` is not the id of an item.
    """
    ordered = items if query.order == "asc" else items[::-1]
    start = 0
    if query.after is not None:
        ids = [item.id for item in ordered]
        if query.after not in ids:
            detail = f"'after' is '{query.after[:80]}', but no input item of this response has this id."
            raise FieldError(param="after", code="invalid_value", detail=detail)
        start = ids.index(query.after) + 1
    items_on_page = tuple(ordered[start : start + query.limit])
    return ItemList(
        data=items_on_page,
        first_id=items_on_page[0].id if items_on_page else None,
        last_id=items_on_page[-1].id if items_on_page else None,
        has_more=start + query.limit < len(ordered),
    )


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
    """Return the parts of a message. Its role decides between input and output text, whatever the client sent."""
    is_output = message.role == "assistant"
    if isinstance(message.content, str):
        return (_text(message.content, is_output=is_output),)
    return tuple(_part(part, f"{where}[{i}]", is_output=is_output) for i, part in enumerate(message.content))


def _part(part: ContentPart, where: str, *, is_output: bool) -> MessagePart:
    if isinstance(part, InputTextPart | OutputTextPart):
        return _text(part.text, is_output=is_output)
    if isinstance(part, RefusalPart) and is_output:
        return Refusal(part.refusal)
    raise _unsupported_content(part, where)


def _text(text: str, *, is_output: bool) -> MessagePart:
    return OutputText(text=text) if is_output else InputText(text)


def _texts(parts: list[OutputPart], where: str) -> tuple[InputText, ...]:
    for i, part in enumerate(parts):
        if not isinstance(part, InputTextPart):
            raise _unsupported_content(part, f"{where}[{i}]")
    return tuple(InputText(part.text) for part in parts if isinstance(part, InputTextPart))


def _unsupported_content(part: ContentPart, where: str) -> FieldError:
    kind = part.__struct_config__.tag
    return unsupported(f"{where}.type", f"{kind!r} content is not supported, only text")


def _with_choices(error: FieldError) -> FieldError:
    parts = _INDEX.sub("", error.param).split(".")
    if error.code != "invalid_value" or parts[-1] != "type" or len(parts) == 1 or parts[-2] not in _CHOICES:
        return error
    detail = f"The value of '{error.param}' is not supported. Supported: {_CHOICES[parts[-2]]}."
    return FieldError(param=error.param, code=error.code, detail=detail)

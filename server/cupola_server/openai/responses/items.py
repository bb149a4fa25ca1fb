"""The items of a conversation, as they are stored and returned: input and output of responses."""

from typing import Literal
from uuid import uuid4

from msgspec import Struct

from cupola_server.openai.schema.chat_completion import ContentLogprob

Status = Literal["in_progress", "completed", "incomplete"]
Role = Literal["user", "assistant", "system", "developer"]


class InputText(Struct, tag_field="type", tag="input_text"):
    """Text of the input."""

    text: str


class OutputText(Struct, tag_field="type", tag="output_text", kw_only=True):
    """Text of an answer, without annotations. `logprobs` is empty unless the request asked for them."""

    text: str
    annotations: tuple[()] = ()
    logprobs: tuple[ContentLogprob, ...] = ()


class Refusal(Struct, tag_field="type", tag="refusal"):
    """An assistant's refusal."""

    refusal: str


class ReasoningText(Struct, tag_field="type", tag="reasoning_text"):
    """Reasoning text, without the model's markers."""

    text: str


class SummaryText(Struct, tag_field="type", tag="summary_text"):
    """A summary of reasoning, from another service."""

    text: str


MessagePart = InputText | OutputText | Refusal


class Message(Struct, tag_field="type", tag="message", kw_only=True):
    """A message. Messages of the assistant contain output text, all others input text."""

    id: str
    role: Role
    status: Status
    content: tuple[MessagePart, ...]


class FunctionCall(Struct, tag_field="type", tag="function_call", kw_only=True):
    """A function call. `arguments` is JSON text."""

    id: str
    call_id: str
    name: str
    arguments: str
    status: Status


class FunctionCallOutput(Struct, tag_field="type", tag="function_call_output", kw_only=True):
    """The output of a function call."""

    id: str
    call_id: str
    output: str | tuple[InputText, ...]
    status: Status


class Reasoning(Struct, tag_field="type", tag="reasoning", kw_only=True):
    """Reasoning before an answer."""

    id: str
    summary: tuple[SummaryText, ...] = ()
    content: tuple[ReasoningText, ...] = ()
    status: Status


Item = Message | FunctionCall | FunctionCallOutput | Reasoning
OutputItem = Message | FunctionCall | Reasoning


def new_id(prefix: str) -> str:
    """Create a unique id."""
    return f"{prefix}_{uuid4().hex}"

"""The items of a conversation, as they are stored and shown: what went into a response and what came out."""

from typing import Literal

from msgspec import Struct

from cupola_server.openai.schema.chat_completion import ContentLogprob

Status = Literal["in_progress", "completed", "incomplete"]
Role = Literal["user", "assistant", "system", "developer"]


class InputText(Struct, tag_field="type", tag="input_text"):
    """Text that was sent."""

    text: str


class OutputText(Struct, tag_field="type", tag="output_text", kw_only=True):
    """Text that was answered. There are no annotations; log probabilities only where they were asked for."""

    text: str
    annotations: tuple[()] = ()
    logprobs: tuple[ContentLogprob, ...] = ()


class Refusal(Struct, tag_field="type", tag="refusal"):
    """What an assistant said instead of an answer."""

    refusal: str


class ReasoningText(Struct, tag_field="type", tag="reasoning_text"):
    """Text between the model's reasoning markers."""

    text: str


class SummaryText(Struct, tag_field="type", tag="summary_text"):
    """A summary of reasoning, made elsewhere."""

    text: str


MessagePart = InputText | OutputText | Refusal


class Message(Struct, tag_field="type", tag="message", kw_only=True):
    """A message; of an assistant it holds output, of everyone else input."""

    id: str
    role: Role
    status: Status
    content: tuple[MessagePart, ...]


class FunctionCall(Struct, tag_field="type", tag="function_call", kw_only=True):
    """A call of a function. `arguments` is JSON text."""

    id: str
    call_id: str
    name: str
    arguments: str
    status: Status


class FunctionCallOutput(Struct, tag_field="type", tag="function_call_output", kw_only=True):
    """What a function returned."""

    id: str
    call_id: str
    output: str | tuple[InputText, ...]
    status: Status


class Reasoning(Struct, tag_field="type", tag="reasoning", kw_only=True):
    """What the model thought before it answered."""

    id: str
    summary: tuple[SummaryText, ...] = ()
    content: tuple[ReasoningText, ...] = ()
    status: Status


Item = Message | FunctionCall | FunctionCallOutput | Reasoning
OutputItem = Message | FunctionCall | Reasoning

"""From items to the messages that a template knows."""

import pytest

from cupola.frontend import Message, ToolCall
from cupola_server.openai.errors import FieldError
from cupola_server.openai.responses import items
from cupola_server.openai.responses.items import (
    FunctionCall,
    FunctionCallOutput,
    InputText,
    OutputText,
    Reasoning,
    ReasoningText,
    Refusal,
    SummaryText,
)
from cupola_server.openai.responses.params import to_messages


def said(role, *texts):
    kind = (lambda text: OutputText(text=text)) if role == "assistant" else InputText
    return items.Message(id="msg_1", role=role, status="completed", content=tuple(map(kind, texts)))


def called(number):
    return FunctionCall(id="fc_1", call_id=f"call_{number}", name="f", arguments="{}", status="completed")


def returned(number, output="Sun"):
    return FunctionCallOutput(id="fco_1", call_id=f"call_{number}", output=output, status="completed")


def thought(text):
    return Reasoning(id="rs_1", content=(ReasoningText(text),), status="completed")


def call(number):
    return ToolCall(f"call_{number}", "f", "{}")


@pytest.mark.parametrize(
    ("conversation", "messages"),
    [
        ([said("user", "Hi")], [Message("user", "Hi")]),
        ([said("user", "One", "Two")], [Message("user", "One\nTwo")]),
        (
            [said("user", "Hi"), said("assistant", "Yo"), said("user", "So")],
            [Message("user", "Hi"), Message("assistant", "Yo"), Message("user", "So")],
        ),
        (
            [thought("Hm."), said("assistant", "Yo"), called(1), called(2)],
            [Message("assistant", "Yo", reasoning_content="Hm.", tool_calls=(call(1), call(2)))],
        ),
        (
            [called(1), returned(1), said("assistant", "Yo")],
            [
                Message("assistant", tool_calls=(call(1),)),
                Message("tool", "Sun", tool_call_id="call_1"),
                Message("assistant", "Yo"),
            ],
        ),
        (
            [said("assistant", "One"), said("assistant", "Two")],
            [Message("assistant", "One"), Message("assistant", "Two")],
        ),
        (
            [said("assistant", "One"), thought("Hm."), said("assistant", "Two")],
            [Message("assistant", "One"), Message("assistant", "Two", reasoning_content="Hm.")],
        ),
        (
            [called(1), returned(1, (InputText("a"), InputText("b")))],
            [Message("assistant", tool_calls=(call(1),)), Message("tool", "a\nb", tool_call_id="call_1")],
        ),
        (
            [items.Message(id="1", role="assistant", status="completed", content=(Refusal("No."),))],
            [Message("assistant", "No.")],
        ),
        (
            [Reasoning(id="1", summary=(SummaryText("Short."),), status="completed")],
            [Message("assistant", reasoning_content="Short.")],
        ),
        ([said("user", "Hi"), said("developer", "Be")], [Message("user", "Hi"), Message("system", "Be")]),
    ],
    ids=lambda value: None,
)
def test_items_become_messages(conversation, messages):
    assert to_messages(None, conversation) == tuple(messages)


def test_instructions_and_the_systems_first_messages_are_one():
    conversation = [said("system", "One."), said("developer", "Two."), said("user", "Hi"), said("system", "Three.")]
    assert to_messages("Zero.", conversation) == (
        Message("system", "Zero.\n\nOne.\n\nTwo."),
        Message("user", "Hi"),
        Message("system", "Three."),
    )


@pytest.mark.parametrize("conversation", [[returned(1)], [called(1), returned(2)], [returned(1), called(1)]])
def test_an_output_without_its_call_is_refused(conversation):
    with pytest.raises(FieldError, match="No function call found"):
        to_messages(None, conversation)

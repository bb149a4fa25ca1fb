"""Finds out from its source what a chat template supports, and writes the rest into the messages."""

import re
from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise

import msgspec

from cupola.frontend import Message, ToolCall
from cupola_server.openai.reasoning import ReasoningFormat, find_reasoning_format
from cupola_server.openai.tools import FunctionTool, ToolFormat

_TOOL_ROLE = re.compile(r"""['"](?:tool|ipython)['"]""")


class Template:
    """A Jinja chat template."""

    def __init__(self, source: str) -> None:
        self.source = source

    def takes(self, option: str) -> bool:
        """Whether the template uses a variable."""
        return re.search(rf"\b{re.escape(option)}\b", self.source) is not None

    @cached_property
    def takes_tools(self) -> bool:
        """Whether it describes tools to the model."""
        return self.takes("tools")

    @cached_property
    def takes_calls(self) -> bool:
        """Whether it renders earlier tool calls."""
        return self.takes("tool_calls")

    @cached_property
    def takes_results(self) -> bool:
        """Whether it renders messages with the role "tool"."""
        return _TOOL_ROLE.search(self.source) is not None

    @cached_property
    def reasoning(self) -> ReasoningFormat | None:
        """The format of the model's reasoning; None if it does not reason."""
        return find_reasoning_format(self.source)

    def adapt(
        self, messages: Sequence[Message], tools: Sequence[FunctionTool], tool_format: ToolFormat
    ) -> tuple[Message, ...]:
        """Write everything into the messages that this template does not render."""
        adapted = [self._adapt_message(message, tool_format) for message in messages]
        if not self.takes_results:
            adapted = _join_results(adapted)
        if tools and not self.takes_tools:
            adapted = _add_instructions(adapted, tool_format.instructions(tools))
        return tuple(adapted)

    def _adapt_message(self, message: Message, tool_format: ToolFormat) -> Message:
        if message.role == "tool":
            if self.takes_results:
                return msgspec.structs.replace(message, tool_call_id=tool_format.call_id(message.tool_call_id or ""))
            return Message("user", f"<tool_response>\n{message.content}\n</tool_response>")
        if not message.tool_calls:
            return message
        calls = tuple(ToolCall(tool_format.call_id(call.id), call.name, call.arguments) for call in message.tool_calls)
        if self.takes_calls:
            return msgspec.structs.replace(message, tool_calls=calls)
        content = "\n".join(filter(None, (message.content, tool_format.write(calls))))
        return msgspec.structs.replace(message, content=content, tool_calls=())


def _add_instructions(messages: Sequence[Message], instructions: str) -> list[Message]:
    first = messages[0]
    if first.role == "system":
        content = f"{first.content}\n\n{instructions}"
        return [msgspec.structs.replace(first, content=content), *messages[1:]]
    return [Message("system", instructions), *messages]


def _join_results(messages: Sequence[Message]) -> list[Message]:
    """Join adjacent tool results into one message, because many templates require alternating roles."""
    joined = list(messages[:1])
    for before, message in pairwise(messages):
        if all(part.role == "user" and part.content.startswith("<tool_response>\n") for part in (before, message)):
            joined[-1] = msgspec.structs.replace(joined[-1], content=f"{joined[-1].content}\n{message.content}")
        else:
            joined.append(message)
    return joined

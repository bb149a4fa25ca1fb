"""What a model's chat template can take, told from its source. What it cannot, is written into the messages instead."""

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
    """A chat template in Jinja, as far as a front-end has to know it."""

    def __init__(self, source: str) -> None:
        self.source = source

    def takes(self, option: str) -> bool:
        """Whether the template looks at a variable."""
        return re.search(rf"\b{re.escape(option)}\b", self.source) is not None

    @cached_property
    def takes_tools(self) -> bool:
        """Whether it explains tools to the model."""
        return self.takes("tools")

    @cached_property
    def takes_calls(self) -> bool:
        """Whether it writes calls that were made."""
        return self.takes("tool_calls")

    @cached_property
    def takes_results(self) -> bool:
        """Whether it knows messages of tools."""
        return _TOOL_ROLE.search(self.source) is not None

    @cached_property
    def reasoning(self) -> ReasoningFormat | None:
        """How its model marks its reasoning; None if the template knows of none."""
        return find_reasoning_format(self.source)

    def fit(
        self, messages: Sequence[Message], tools: Sequence[FunctionTool], format_: ToolFormat
    ) -> tuple[Message, ...]:
        """Write into the messages whatever this template would leave out."""
        fitted = [self._fitted(message, format_) for message in messages]
        if not self.takes_results:
            fitted = _joined(fitted)
        if tools and not self.takes_tools:
            fitted = _instructed(fitted, format_.instructions(tools))
        return tuple(fitted)

    def _fitted(self, message: Message, format_: ToolFormat) -> Message:
        if message.role == "tool":
            if self.takes_results:
                return msgspec.structs.replace(message, tool_call_id=format_.call_id(message.tool_call_id or ""))
            return Message("user", f"<tool_response>\n{message.content}\n</tool_response>")
        if not message.tool_calls:
            return message
        calls = tuple(ToolCall(format_.call_id(call.id), call.name, call.arguments) for call in message.tool_calls)
        if self.takes_calls:
            return msgspec.structs.replace(message, tool_calls=calls)
        content = "\n".join(filter(None, (message.content, format_.write(calls))))
        return msgspec.structs.replace(message, content=content, tool_calls=())


def _instructed(messages: Sequence[Message], instructions: str) -> list[Message]:
    first = messages[0]
    if first.role == "system":
        content = f"{first.content}\n\n{instructions}"
        return [msgspec.structs.replace(first, content=content), *messages[1:]]
    return [Message("system", instructions), *messages]


def _joined(messages: Sequence[Message]) -> list[Message]:
    """Join results of several calls into one message, as many templates want roles to alternate."""
    joined = list(messages[:1])
    for before, message in pairwise(messages):
        if all(part.role == "user" and part.content.startswith("<tool_response>\n") for part in (before, message)):
            joined[-1] = msgspec.structs.replace(joined[-1], content=f"{joined[-1].content}\n{message.content}")
        else:
            joined.append(message)
    return joined

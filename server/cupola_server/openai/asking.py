"""What to ask a model: everything a chat request can say, in no API's own words."""

from typing import Any, Literal

from msgspec import Struct

from cupola.frontend import GenerateRequest
from cupola_server.openai.tools import FunctionTool, NamedFunction

ToolChoice = Literal["auto", "none", "required"] | NamedFunction


class Params(Struct, frozen=True, kw_only=True):
    """What an API calls its fields, for errors."""

    tools: str = "tools"
    reasoning_effort: str = "reasoning_effort"
    template_options: str = "chat_template_kwargs"


class ChatAsk(Struct, frozen=True, kw_only=True):
    """What to ask a model, and how.

    Attributes:
        request: Everything the engine has a word for. Its prompt holds the conversation as the client tells it.
        tools: Functions that the model may call.
        tool_choice: Whether it may, must or must not, or which one it must.
        parallel_tool_calls: Whether it may call several at once.
        reasoning_effort: How much it should think, for templates that can tell it.
        template_options: Further variables for the template.
        params: The API's names.
    """

    request: GenerateRequest
    tools: tuple[FunctionTool, ...] = ()
    tool_choice: ToolChoice = "auto"
    parallel_tool_calls: bool = True
    reasoning_effort: str | None = None
    template_options: dict[str, Any] = {}
    params: Params = Params()

    @property
    def offered(self) -> tuple[FunctionTool, ...]:
        """The functions that may be called now. The others are not even shown to the model."""
        if self.tool_choice == "none":
            return ()
        if isinstance(self.tool_choice, NamedFunction):
            return tuple(tool for tool in self.tools if tool.name == self.tool_choice.name)
        return self.tools

    @property
    def must_call(self) -> bool:
        """Whether the answer has to be calls and nothing else."""
        return self.tool_choice not in ("auto", "none")

    @property
    def may_call_many(self) -> bool:
        """Whether several calls are allowed."""
        return self.parallel_tool_calls and not isinstance(self.tool_choice, NamedFunction)

    @property
    def is_shaped(self) -> bool:
        """Whether nothing but the asked-for shape can come, no thought before it either."""
        return self.must_call or self.request.guidance is not None

"""Requests for models elsewhere: handed on as they are, and their answers come with calls and reasoning told apart."""

from collections.abc import Callable, Iterator
from uuid import uuid4

import msgspec

from cupola.frontend import ChatPrompt, Tool, ToolUse, TurnCall
from cupola_server.openai.asking import ChatAsk
from cupola_server.openai.pieces import Piece, ToolArgumentsDelta, ToolCallStarted
from cupola_server.openai.preparing import Prepared
from cupola_server.openai.tools import NamedFunction


def handed_on(ask: ChatAsk) -> Prepared:
    """Make a request ready for a model that renders and reads for itself: nothing of it is written into the prompt."""
    prompt, choice, tools = ask.request.prompt, ask.tool_choice, ask.offered
    assert isinstance(prompt, ChatPrompt)
    options = {**prompt.template_options, **ask.template_options}
    shown = tuple(Tool(tool.name, tool.description, tool.parameters or {}) for tool in tools)
    use = ToolUse(
        choice="required" if isinstance(choice, NamedFunction) else choice,
        only=choice.name if isinstance(choice, NamedFunction) else None,
        parallel=ask.may_call_many,
        strict=tuple(tool.name for tool in tools if tool.strict),
    )
    request = msgspec.structs.replace(
        ask.request,
        prompt=ChatPrompt(prompt.messages, shown, options),
        tool_use=use if tools else None,
        reasoning_effort=ask.reasoning_effort,
    )
    return Prepared(request, parser=None, call_id=_call_id, reasoning=None, reasoning_opened=False)


class ReadyCalls:
    """Makes pieces of the calls that a model elsewhere tells apart itself. Their ids are ours, as for any model.

    Attributes:
        indices: The number here of each call, by the number there.
    """

    def __init__(self, call_id: Callable[[], str]) -> None:
        self.indices: dict[int, int] = {}
        self._call_id = call_id

    def read(self, event: TurnCall) -> Iterator[Piece]:
        """Return what an event adds."""
        if event.index not in self.indices:
            self.indices[event.index] = len(self.indices)
            yield ToolCallStarted(self.indices[event.index], self._call_id(), event.name)
        if event.arguments:
            yield ToolArgumentsDelta(self.indices[event.index], event.arguments)


def _call_id() -> str:
    return f"call_{uuid4().hex[:24]}"

"""Making a request ready for the model that gets it: its template, its format of calls, its way of reasoning."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec

from cupola.frontend import ChatPrompt, EngineView, GenerateRequest, Guidance, Tool
from cupola_server.openai.asking import ChatAsk
from cupola_server.openai.errors import FieldError
from cupola_server.openai.reading import AnswerReader
from cupola_server.openai.reasoning import THINK, ReasoningFormat, ReasoningSplitter
from cupola_server.openai.templates import Template
from cupola_server.openai.tools import CallParser, FunctionTool, JsonCallParser, ToolFormat
from cupola_server.openai.tools.grammar import after_reasoning, calls_grammar

_TEMPLATE_VARIABLES = {"messages", "tools", "add_generation_prompt", "bos_token", "eos_token"}
_TAIL_TOKENS = 16


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request made ready for one model.

    Attributes:
        request: What the engine gets.
        parser: Makes what tells calls from text; None if there is nothing to call.
        call_id: Makes an id for a call.
        reasoning: How the model marks reasoning; None if whatever it writes is the answer.
        reasoning_opened: The prompt ends where the reasoning begins.
        tools: The functions that may be called.
    """

    request: GenerateRequest
    parser: Callable[[], CallParser] | None
    call_id: Callable[[], str]
    reasoning: ReasoningFormat | None
    reasoning_opened: bool
    tools: tuple[FunctionTool, ...] = ()

    def reader(self) -> AnswerReader:
        """Make what reads one answer."""
        return AnswerReader(
            ReasoningSplitter(self.reasoning, opened=self.reasoning_opened) if self.reasoning else None,
            self.parser() if self.parser else None,
            call_id=self.call_id,
            special_tokens=self.request.special_tokens,
            logprobs=self.request.top_logprobs is not None,
        )


async def prepare(ask: ChatAsk, template: Template, format_: ToolFormat, engine: EngineView) -> Prepared:
    """Make a request ready for a model with this template.

    Raises:
        FieldError: The template cannot do what is asked.
        CupolaError: Whatever the engine says about rendering it.
    """
    prompt = _prompt(ask, template, format_)
    guidance = _guidance(ask, format_)
    reasoning: ReasoningFormat | None = template.reasoning or THINK
    opened = False
    if template.reasoning:
        opened = await _ends_with(template.reasoning.opening, ask.request.model, prompt, engine)
    if ask.is_shaped and guidance:
        if template.reasoning and opened and not template.reasoning.special_tokens:
            guidance = after_reasoning(guidance, template.reasoning.closing)
        else:
            reasoning = None
    special = bool(ask.offered and format_.special_tokens) or bool(reasoning and reasoning.special_tokens)
    request = msgspec.structs.replace(ask.request, prompt=prompt, guidance=guidance, special_tokens=special)
    parser = _parser(ask, format_, guided=guidance is not None)
    return Prepared(request, parser, format_.call_id, reasoning, opened, ask.offered)


async def _ends_with(marker: str, model: str, prompt: ChatPrompt, engine: EngineView) -> bool:
    """Whether the prompt, as the template renders it, ends with a marker."""
    tokens = await engine.tokenize(model, prompt)
    end = await engine.detokenize(model, tokens[-_TAIL_TOKENS:])
    return end.rstrip().endswith(marker)


def _guidance(ask: ChatAsk, format_: ToolFormat) -> Guidance | None:
    answer, tools = ask.request.guidance, ask.offered
    if not tools:
        return answer
    if answer and answer.kind == "lark":
        detail = f"'{answer.param}' cannot be combined with '{ask.params.tools}': leave one of them out."
        raise FieldError(param=answer.param, code="invalid_value", detail=detail)
    free = not (ask.must_call or answer) and ask.may_call_many and not any(tool.strict for tool in tools)
    if free:
        return None
    return calls_grammar(
        format_, tools, required=ask.must_call, many=ask.may_call_many, answer=answer, param=ask.params.tools
    )


def _parser(ask: ChatAsk, format_: ToolFormat, *, guided: bool) -> Callable[[], CallParser] | None:
    if not ask.offered:
        return None
    names = frozenset(tool.name for tool in ask.offered)
    if guided and format_.marks() is None:  # the grammar wants bare JSON, whatever the model is used to
        return partial(JsonCallParser, (), "", names)
    return partial(format_.parser, names)


def _prompt(ask: ChatAsk, template: Template, format_: ToolFormat) -> ChatPrompt:
    prompt = ask.request.prompt
    assert isinstance(prompt, ChatPrompt)
    options = {**prompt.template_options, **_template_options(ask, template)}
    if ask.is_shaped and template.takes("enable_thinking"):
        options.setdefault("enable_thinking", False)  # a grammar leaves no room for it
    known = ask.offered if template.takes_tools else ()
    return ChatPrompt(
        template.fit(prompt.messages, ask.offered, format_),
        tuple(Tool(tool.name, tool.description, tool.parameters or {}) for tool in known),
        options,
    )


def _template_options(ask: ChatAsk, template: Template) -> dict[str, Any]:
    for name in ask.template_options:
        if name in _TEMPLATE_VARIABLES or not template.takes(name):
            param = ask.params.template_options
            raise _unsupported(f"{param}.{name}", "this model's chat template takes no such option")
    return {**_effort_options(ask, template), **ask.template_options}


def _effort_options(ask: ChatAsk, template: Template) -> dict[str, Any]:
    effort = ask.reasoning_effort
    if effort is None:
        return {}
    if template.takes("reasoning_effort"):
        return {"reasoning_effort": effort}
    if template.takes("enable_thinking"):
        return {"enable_thinking": effort != "none"}
    if effort == "none" and template.reasoning is None:
        return {}
    raise _unsupported(ask.params.reasoning_effort, "this model's chat template has no such switch")


def _unsupported(param: str, reason: str) -> FieldError:
    return FieldError(param=param, code="unsupported_value", detail=f"'{param}' is not supported: {reason}.")

"""Chat turns: the normalised parameters of a request, and running them on a model.

Chat completions and responses both translate their requests to `ChatParams`.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal
from uuid import uuid4

import msgspec
from msgspec import Struct

from cupola.errors import InvalidParameterError
from cupola.frontend import ChatPrompt, EngineView, GenerateRequest, Guidance, Tool, ToolUse
from cupola_server.openai.answer_parser import AnswerParser
from cupola_server.openai.errors import FieldError, unsupported
from cupola_server.openai.reasoning import THINK, ReasoningFormat, ReasoningSplitter
from cupola_server.openai.stream import AnswerStream
from cupola_server.openai.templates import Template
from cupola_server.openai.tools import (
    TOOL_FORMATS,
    CallParser,
    FunctionTool,
    JsonCallParser,
    NamedFunction,
    ToolFormat,
    format_for,
)
from cupola_server.openai.tools.grammar import after_reasoning, calls_grammar, schema_error

ToolChoice = Literal["auto", "none", "required"] | NamedFunction

_TEMPLATE_VARIABLES = {"messages", "tools", "add_generation_prompt", "bos_token", "eos_token"}
_TAIL_TOKENS = 16


class FieldNames(Struct, frozen=True, kw_only=True):
    """The names that an API gives to the fields of `ChatParams`, for error messages."""

    tools: str = "tools"
    reasoning_effort: str = "reasoning_effort"
    template_options: str = "chat_template_kwargs"


class ChatParams(Struct, frozen=True, kw_only=True):
    """The parameters of a chat request, independent of any API.

    Attributes:
        request: The engine's request. Its prompt holds the conversation as the client sent it.
        tools: The functions that the model may call.
        tool_choice: Whether the model may, must not or must call a function, or the function that it must call.
        parallel_tool_calls: Whether one answer may contain several calls.
        reasoning_effort: How much to reason, for templates that support it.
        template_options: Further variables of the chat template.
        names: The API's field names.
    """

    request: GenerateRequest
    tools: tuple[FunctionTool, ...] = ()
    tool_choice: ToolChoice = "auto"
    parallel_tool_calls: bool = True
    reasoning_effort: str | None = None
    template_options: dict[str, Any] = {}
    names: FieldNames = FieldNames()

    @property
    def callable_tools(self) -> tuple[FunctionTool, ...]:
        """The functions that `tool_choice` allows. The model does not see the others."""
        if self.tool_choice == "none":
            return ()
        if isinstance(self.tool_choice, NamedFunction):
            return tuple(tool for tool in self.tools if tool.name == self.tool_choice.name)
        return self.tools

    @property
    def must_call(self) -> bool:
        """Whether the answer must consist of calls."""
        return self.tool_choice not in ("auto", "none")

    @property
    def may_call_many(self) -> bool:
        """Whether several calls are allowed."""
        return self.parallel_tool_calls and not isinstance(self.tool_choice, NamedFunction)

    @property
    def is_constrained(self) -> bool:
        """Whether a grammar constrains the answer from its first token, so that no reasoning can precede it."""
        return self.must_call or self.request.guidance is not None


@dataclass(frozen=True, slots=True)
class PreparedTurn:
    """A request that is adapted to one model.

    Attributes:
        request: The request for the engine.
        call_parser: Creates the parser of function calls; None if no function may be called.
        call_id: Creates ids for calls.
        reasoning: How the model marks reasoning; None if all text belongs to the answer.
        reasoning_opened: Whether the prompt ends with the opening marker of the reasoning.
        tools: The functions that may be called.
    """

    request: GenerateRequest
    call_parser: Callable[[], CallParser] | None
    call_id: Callable[[], str]
    reasoning: ReasoningFormat | None
    reasoning_opened: bool
    tools: tuple[FunctionTool, ...] = ()

    @classmethod
    def plain(cls, request: GenerateRequest) -> "PreparedTurn":
        """Create a turn whose text needs no parsing."""
        return cls(request, call_parser=None, call_id=_new_call_id, reasoning=None, reasoning_opened=False)

    def parser(self) -> AnswerParser:
        """Create the parser of one answer."""
        return AnswerParser(
            ReasoningSplitter(self.reasoning, opened=self.reasoning_opened) if self.reasoning else None,
            self.call_parser() if self.call_parser else None,
            call_id=self.call_id,
            special_tokens=self.request.special_tokens,
            logprobs=self.request.top_logprobs is not None,
        )


class ChatTurns:
    """Prepares chat turns and runs them on the engine.

    Args:
        engine: The engine that runs the requests.
        formats: The supported formats of function calls, the most specific first.
    """

    def __init__(self, engine: EngineView, formats: Sequence[ToolFormat] = TOOL_FORMATS) -> None:
        self._engine = engine
        self._formats = formats
        self._templates: dict[str, tuple[Template, ToolFormat]] = {}

    async def prepare(self, params: ChatParams) -> PreparedTurn:
        """Load the model if needed, or the fallback model, and adapt the request to it.

        Raises:
            FieldError: The model's template does not support the request.
            CupolaError: The engine could not load the model.
        """
        loaded = await self._engine.load(params.request.model, use_fallback=True)
        # the id names the model that was loaded, which may be the fallback model
        params = msgspec.structs.replace(params, request=msgspec.structs.replace(params.request, model=loaded.info.id))
        if loaded.report.kind == "external":
            return _prepare_external(params)
        source = loaded.report.template
        if source not in self._templates:
            self._templates[source] = Template(source), format_for(source, self._formats)
        return await _prepare(params, *self._templates[source], self._engine)

    @asynccontextmanager
    async def start(self, turn: PreparedTurn, choice: int = 0) -> AsyncIterator[AnswerStream]:
        """Run a turn. Entering waits until the prompt is accepted; leaving early cancels the turn.

        Args:
            turn: The prepared turn.
            choice: The index among several choices, which have different seeds.
        """
        request = turn.request
        if choice and request.sampling.seed is not None:
            sampling = msgspec.structs.replace(request.sampling, seed=_wrapping_add(request.sampling.seed, choice))
            request = msgspec.structs.replace(request, sampling=sampling)
        try:
            async with self._engine.generate(request) as generation:
                yield AnswerStream(generation, turn.parser(), turn.call_id)
        except InvalidParameterError as error:
            if error.param == "provider":  # OpenAI requests name this field "ep"
                raise InvalidParameterError(param="ep", detail=error.detail) from None
            if not (turn.tools and request.guidance):
                raise
            raise schema_error(error, request.guidance, turn.tools) from None

    @asynccontextmanager
    async def start_choices(self, turn: PreparedTurn, count: int) -> AsyncIterator[Sequence[AnswerStream]]:
        """Run several choices of a turn. Entering waits until all are accepted; leaving cancels them.

        They start one after another, so that later ones find the prompt of the first one in the KV cache.
        """
        async with AsyncExitStack() as stack:
            yield [await stack.enter_async_context(self.start(turn, choice)) for choice in range(count)]


def _prepare_external(params: ChatParams) -> PreparedTurn:
    """Adapt a request to an external model, which renders the prompt and parses the answer itself."""
    prompt, choice, tools = params.request.prompt, params.tool_choice, params.callable_tools
    assert isinstance(prompt, ChatPrompt)
    options = {**prompt.template_options, **params.template_options}
    use = ToolUse(
        choice="required" if isinstance(choice, NamedFunction) else choice,
        only=choice.name if isinstance(choice, NamedFunction) else None,
        parallel=params.may_call_many,
        strict=tuple(tool.name for tool in tools if tool.strict),
    )
    request = msgspec.structs.replace(
        params.request,
        prompt=ChatPrompt(prompt.messages, _engine_tools(tools), options),
        tool_use=use if tools else None,
        reasoning_effort=params.reasoning_effort,
    )
    return PreparedTurn.plain(request)


async def _prepare(params: ChatParams, template: Template, tool_format: ToolFormat, engine: EngineView) -> PreparedTurn:
    """Adapt a request to a local model with this template.

    Raises:
        FieldError: The template does not support the request.
        CupolaError: The engine could not render the prompt.
    """
    prompt = _prompt(params, template, tool_format)
    guidance = _guidance(params, tool_format)
    reasoning: ReasoningFormat | None = template.reasoning or THINK
    opened = False
    if template.reasoning:
        opened = await _ends_with(template.reasoning.opening, params.request.model, prompt, engine)
    if params.is_constrained and guidance:
        if template.reasoning and opened and not template.reasoning.special_tokens:
            guidance = after_reasoning(guidance, template.reasoning.closing)
        else:
            reasoning = None
    needs_special_tokens = bool(params.callable_tools and tool_format.special_tokens) or bool(
        reasoning and reasoning.special_tokens
    )
    request = msgspec.structs.replace(
        params.request, prompt=prompt, guidance=guidance, special_tokens=needs_special_tokens
    )
    call_parser = _call_parser(params, tool_format, is_guided=guidance is not None)
    return PreparedTurn(request, call_parser, tool_format.call_id, reasoning, opened, params.callable_tools)


def _prompt(params: ChatParams, template: Template, tool_format: ToolFormat) -> ChatPrompt:
    prompt = params.request.prompt
    assert isinstance(prompt, ChatPrompt)
    options = {**prompt.template_options, **_template_options(params, template)}
    if params.is_constrained and template.takes("enable_thinking"):
        options.setdefault("enable_thinking", False)  # the grammar does not allow reasoning
    tools = params.callable_tools if template.takes_tools else ()
    messages = template.adapt(prompt.messages, params.callable_tools, tool_format)
    return ChatPrompt(messages, _engine_tools(tools), options)


def _engine_tools(tools: Sequence[FunctionTool]) -> tuple[Tool, ...]:
    return tuple(Tool(tool.name, tool.description, tool.parameters or {}) for tool in tools)


def _template_options(params: ChatParams, template: Template) -> dict[str, Any]:
    for name in params.template_options:
        if name in _TEMPLATE_VARIABLES or not template.takes(name):
            reason = "the chat template of this model does not use this option"
            raise unsupported(f"{params.names.template_options}.{name}", reason)
    return {**_effort_options(params, template), **params.template_options}


def _effort_options(params: ChatParams, template: Template) -> dict[str, Any]:
    effort = params.reasoning_effort
    if effort is None:
        return {}
    if template.takes("reasoning_effort"):
        return {"reasoning_effort": effort}
    if template.takes("enable_thinking"):
        return {"enable_thinking": effort != "none"}
    if effort == "none" and template.reasoning is None:
        return {}
    raise unsupported(params.names.reasoning_effort, "the chat template of this model does not support it")


def _guidance(params: ChatParams, tool_format: ToolFormat) -> Guidance | None:
    answer, tools = params.request.guidance, params.callable_tools
    if not tools:
        return answer
    if answer and answer.kind == "lark":
        detail = f"'{answer.param}' cannot be combined with '{params.names.tools}'. Remove one of them."
        raise FieldError(param=answer.param, code="invalid_value", detail=detail)
    is_free = not (params.must_call or answer) and params.may_call_many and not any(tool.strict for tool in tools)
    if is_free:
        return None
    return calls_grammar(
        tool_format,
        tools,
        required=params.must_call,
        many=params.may_call_many,
        answer=answer,
        param=params.names.tools,
    )


def _call_parser(params: ChatParams, tool_format: ToolFormat, *, is_guided: bool) -> Callable[[], CallParser] | None:
    if not params.callable_tools:
        return None
    names = frozenset(tool.name for tool in params.callable_tools)
    if is_guided and tool_format.marks() is None:  # the grammar produces plain JSON instead of the model's format
        return partial(JsonCallParser, (), "", names)
    return partial(tool_format.parser, names)


async def _ends_with(marker: str, model: str, prompt: ChatPrompt, engine: EngineView) -> bool:
    """Whether the rendered prompt ends with a marker."""
    tokens = await engine.tokenize(model, prompt)
    end = await engine.detokenize(model, tokens[-_TAIL_TOKENS:])
    return end.rstrip().endswith(marker)


def _wrapping_add(seed: int, offset: int) -> int:
    """Add to a signed 64-bit seed, with wraparound."""
    return (seed + offset + 2**63) % 2**64 - 2**63


def _new_call_id() -> str:
    return f"call_{uuid4().hex[:24]}"

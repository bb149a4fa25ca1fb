"""From a chat request to the pieces of its answers: templates, tools and reasoning, without HTTP and without an API.

Chat completions and responses are both built on this.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import msgspec
from msgspec import Struct

from cupola import (
    ChatPrompt,
    EngineView,
    GenerateRequest,
    Generation,
    Guidance,
    ModelInfo,
    Tool,
    TurnFinished,
    WorkerError,
)
from cupola_server.openai.errors import FieldError
from cupola_server.openai.pieces import ContentDelta, Finished, Piece
from cupola_server.openai.reading import AnswerReader
from cupola_server.openai.reasoning import THINK, ReasoningFormat, ReasoningSplitter
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
from cupola_server.openai.tools.grammar import calls_grammar

_BROKEN_OFF = "The answer broke off without saying why."
_CANCELLED = "The service cancelled this answer before it was complete."
_TEMPLATE_VARIABLES = {"messages", "tools", "add_generation_prompt", "bos_token", "eos_token"}
_TAIL_TOKENS = 16

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


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request made ready for one model.

    Attributes:
        request: What the engine gets.
        parser: Makes what tells calls from text; None if there is nothing to call.
        call_id: Makes an id for a call.
        reasoning: How the model marks reasoning; None if whatever it writes is the answer.
        reasoning_opened: The prompt ends where the reasoning begins.
    """

    request: GenerateRequest
    parser: Callable[[], CallParser] | None
    call_id: Callable[[], str]
    reasoning: ReasoningFormat | None
    reasoning_opened: bool

    def reader(self) -> AnswerReader:
        """Make what reads one answer."""
        return AnswerReader(
            ReasoningSplitter(self.reasoning, opened=self.reasoning_opened) if self.reasoning else None,
            self.parser() if self.parser else None,
            call_id=self.call_id,
            special_tokens=self.request.special_tokens,
            logprobs=self.request.top_logprobs is not None,
        )


class ChatTurns:
    """Asks an engine, and tells its answers apart.

    Args:
        engine: Whom to ask.
        formats: The formats of calls that are known, the most telling sign first.
    """

    def __init__(self, engine: EngineView, formats: Sequence[ToolFormat] = TOOL_FORMATS) -> None:
        self._engine = engine
        self._formats = formats
        self._known: dict[str, tuple[Template, ToolFormat]] = {}

    async def prepare(self, ask: ChatAsk) -> Prepared:
        """Make a request ready for the model it names, which is loaded if need be.

        Raises:
            FieldError: The model's template cannot do what is asked.
            CupolaError: Whatever the engine says about loading.
        """
        status = await self._engine.load(ask.request.model)
        template, format_ = self._template(status.report.template)
        tools = _offered(ask)
        guidance = _guidance(ask, tools, format_)
        shaped = ask.request.guidance is not None or _is_required(ask)
        prompt = _prompt(ask, tools, template, format_, shaped=shaped)
        reasoning = None if shaped else template.reasoning or THINK
        opened = bool(reasoning and template.reasoning and await self._opens(ask.request.model, prompt, reasoning))
        parser: Callable[[], CallParser] | None = None
        if tools:
            names = frozenset(tool.name for tool in tools)
            bare = guidance is not None and format_.marks() is None
            parser = partial(JsonCallParser, (), "", names) if bare else partial(format_.parser, names)
        special = bool(tools and format_.special_tokens) or bool(reasoning and reasoning.special_tokens)
        request = msgspec.structs.replace(
            ask.request, prompt=prompt, guidance=guidance, special_tokens=ask.request.special_tokens or special
        )
        return Prepared(request, parser, format_.call_id, reasoning, opened)

    @asynccontextmanager
    async def open(self, prepared: Prepared, choice: int = 0) -> AsyncIterator["Answer"]:
        """Run a turn. Entering waits until the prompt is accepted; leaving early cancels it.

        Args:
            prepared: What to ask.
            choice: Which of several answers; each gets a seed of its own.
        """
        request = prepared.request
        if choice and request.sampling.seed is not None:
            sampling = msgspec.structs.replace(request.sampling, seed=_moved(request.sampling.seed, choice))
            request = msgspec.structs.replace(request, sampling=sampling)
        async with self._engine.generate(request) as generation:
            yield Answer(generation, prepared)

    def _template(self, source: str) -> tuple[Template, ToolFormat]:
        if source not in self._known:
            self._known[source] = Template(source), format_for(source, self._formats)
        return self._known[source]

    async def _opens(self, model: str, prompt: ChatPrompt, reasoning: ReasoningFormat) -> bool:
        """Whether the prompt, rendered, ends with the marker that begins reasoning."""
        tokens = await self._engine.tokenize(model, prompt)
        end = await self._engine.detokenize(model, tokens[-_TAIL_TOKENS:])
        return end.rstrip().endswith(reasoning.opening)


class Answer:
    """A running turn, as pieces. The last one is `Finished`."""

    def __init__(self, generation: Generation, prepared: Prepared) -> None:
        self.model: ModelInfo = generation.model
        self.prompt_tokens = generation.prompt_tokens
        self._generation = generation
        self._reader = prepared.reader()

    async def __aiter__(self) -> AsyncIterator[Piece]:
        """Iterate over the pieces.

        Raises:
            WorkerError: The answer broke off, or the service cancelled it.
        """
        reader = self._reader
        plain = False
        async for event in self._generation:
            if isinstance(event, TurnFinished):
                for piece in reader.finish(cut=isinstance(event.stopped_by, str)):
                    yield piece
                yield _finished(event, called=reader.called)
                return
            if plain:
                if event.text:
                    yield ContentDelta(event.text)
                continue
            for piece in reader.feed(event):
                yield piece
            plain = reader.is_plain
        raise WorkerError(detail=_BROKEN_OFF)


def _finished(event: TurnFinished, *, called: bool) -> Finished:
    if event.reason == "cancelled":
        raise WorkerError(detail=_CANCELLED)
    reason = "tool_calls" if called and event.reason == "stop" else event.reason
    return Finished(reason, event.usage, event.stopped_by)


def _moved(seed: int, by: int) -> int:
    """Add to a seed without leaving the 64 bits that it has."""
    return (seed + by + 2**63) % 2**64 - 2**63


def _offered(ask: ChatAsk) -> tuple[FunctionTool, ...]:
    """Return the functions that may be called now. The others are not even shown to the model."""
    if ask.tool_choice == "none":
        return ()
    if isinstance(ask.tool_choice, NamedFunction):
        return tuple(tool for tool in ask.tools if tool.name == ask.tool_choice.name)
    return ask.tools


def _is_required(ask: ChatAsk) -> bool:
    return ask.tool_choice not in ("auto", "none")


def _guidance(ask: ChatAsk, tools: Sequence[FunctionTool], format_: ToolFormat) -> Guidance | None:
    answer = ask.request.guidance
    if not tools:
        return answer
    if answer and answer.kind == "lark":
        detail = f"'{answer.param}' cannot be combined with '{ask.params.tools}': leave one of them out."
        raise FieldError(param=answer.param, code="invalid_value", detail=detail)
    required = _is_required(ask)
    many = ask.parallel_tool_calls and not isinstance(ask.tool_choice, NamedFunction)
    if not (required or answer or not many or any(tool.strict for tool in tools)):
        return None
    return calls_grammar(format_, tools, required=required, many=many, answer=answer, param=ask.params.tools)


def _prompt(
    ask: ChatAsk, tools: Sequence[FunctionTool], template: Template, format_: ToolFormat, *, shaped: bool
) -> ChatPrompt:
    prompt = ask.request.prompt
    assert isinstance(prompt, ChatPrompt)
    options = {**prompt.template_options, **_template_options(ask, template)}
    if shaped and template.takes("enable_thinking"):
        options.setdefault("enable_thinking", False)  # a grammar leaves no room for it
    known = tools if template.takes_tools else ()
    return ChatPrompt(
        template.fit(prompt.messages, tools, format_),
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

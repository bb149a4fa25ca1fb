"""POST /v1/completions: the endpoint, and the encoding of its responses in OpenAI's older format."""

import codecs
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Literal
from uuid import uuid4

import msgspec

from cupola.errors import ContextLengthExceededError, InvalidParameterError, RequestError
from cupola.frontend import EngineView, GenerateRequest, TextPrompt, TokenLogprob, TokenPrompt, Usage
from cupola_server.openai.chat import to_chat_params
from cupola_server.openai.decoding import BodyDecoder
from cupola_server.openai.errors import FieldError, unsupported
from cupola_server.openai.exchange import Exchange
from cupola_server.openai.prompts import Prompts, parse_prompts
from cupola_server.openai.replies import DONE, completion_usage, content_logprob, sse_event
from cupola_server.openai.schema import ChatRequest
from cupola_server.openai.schema.completions import TextChoice, TextCompletion, TextCompletionRequest, TextLogprobs
from cupola_server.openai.stream import AnswerStream, EventHandler, multiplex
from cupola_server.openai.stream_events import ContentDelta, Finished, StreamEvent
from cupola_server.openai.turns import ChatTurns, PreparedTurn

_MAX_CHOICES = 64
_DEFAULT_MAX_TOKENS = 16
_EMPTY_TEXT = b'"text":""'
_FIELDS_OF_CHAT = set(ChatRequest.__struct_fields__) & set(TextCompletionRequest.__struct_fields__) - {"logprobs", "n"}


class TextCompletions:
    """Serves text completions. Turns are cancelled when their request ends, however it ends."""

    def __init__(self, engine: EngineView) -> None:
        self._engine = engine
        self._turns = ChatTurns(engine)
        self._decoder = BodyDecoder(TextCompletionRequest)

    async def create(self, exchange: Exchange) -> None:
        """Handle a request, with or without streaming."""
        request = self._decoder.decode(await exchange.json_body())
        prompts = parse_prompts(request.prompt, "prompt", limit=_MAX_CHOICES)
        turn = to_generate_request(request, prompts)
        count = request.n or 1
        echoes = await self._echoes(request, prompts)
        async with self._start_all(prompts, turn, count) as streams:
            include_usage = bool(request.stream_options and request.stream_options.include_usage)
            encoder = TextEncoder(streams[0].model.id, echoes, per_prompt=count, include_usage=include_usage)
            if request.stream:
                await exchange.start_events(encoder.opening())
            await multiplex(streams, _chunk_sender(exchange, encoder) if request.stream else encoder.add)
        if request.stream:
            await exchange.end_events(encoder.closing())
        else:
            await exchange.reply(200, encoder.completion())

    async def _echoes(self, request: TextCompletionRequest, prompts: Prompts) -> Sequence[str]:
        """Return the text that precedes the choices of each prompt."""
        if not request.echo:
            return [""] * len(prompts.items)
        return [
            prompt if isinstance(prompt, str) else await self._engine.detokenize(request.model, prompt)
            for prompt in prompts.items
        ]

    @asynccontextmanager
    async def _start_all(
        self, prompts: Prompts, turn: GenerateRequest, count: int
    ) -> AsyncIterator[Sequence[AnswerStream]]:
        """Run the choices of all prompts. Entering waits until all are accepted; leaving cancels them."""
        async with AsyncExitStack() as stack:
            streams: list[AnswerStream] = []
            for number, item in enumerate(prompts.items):
                prompt = TextPrompt(item) if isinstance(item, str) else TokenPrompt(item)
                prepared = PreparedTurn.plain(msgspec.structs.replace(turn, prompt=prompt))
                try:
                    streams += await stack.enter_async_context(self._turns.start_choices(prepared, count))
                except RequestError as error:
                    raise _with_param(error, prompts.param_of(number)) from None
            yield streams


def to_generate_request(request: TextCompletionRequest, prompts: Prompts) -> GenerateRequest:
    """Translate everything except the prompts. The shared fields mean the same as in a chat request.

    Raises:
        FieldError: A field is invalid or not supported.
    """
    count = request.n or 1
    if len(prompts.items) * count > _MAX_CHOICES:
        detail = f"{len(prompts.items)} prompts with {count} choices each exceed the limit of {_MAX_CHOICES} choices."
        raise FieldError(param="n", code="invalid_value", detail=detail)
    if request.best_of not in (None, 1, count):
        raise unsupported("best_of", "no best answer is selected among additional ones; leave it out")
    if request.suffix:
        raise unsupported("suffix", "insertion is not supported")
    if request.echo and request.logprobs is not None:
        raise unsupported("logprobs", "log probabilities of prompts are not computed, so it cannot be used with 'echo'")
    shared = {name: getattr(request, name) for name in _FIELDS_OF_CHAT}
    shared["max_tokens"] = _DEFAULT_MAX_TOKENS if request.max_tokens is None else request.max_tokens
    has_logprobs = request.logprobs is not None
    chat = ChatRequest(messages=[], logprobs=has_logprobs, top_logprobs=request.logprobs, **shared)
    return to_chat_params(chat).request


class TextEncoder:
    """Encodes the choices of one request: `add` and `completion`, or `opening`, `chunk` and `closing` for a stream.

    Args:
        model: The model's id.
        echoes: The text that precedes the choices of each prompt.
        per_prompt: The number of choices per prompt.
        include_usage: Whether the last chunk of a stream reports the token usage.
    """

    def __init__(self, model: str, echoes: Sequence[str], *, per_prompt: int, include_usage: bool) -> None:
        self._per_prompt = per_prompt
        self._include_usage = include_usage
        usage = None if include_usage else msgspec.UNSET
        created = int(time.time())
        self._template = TextCompletion(id=f"cmpl-{uuid4().hex}", created=created, model=model, choices=(), usage=usage)
        texts = (echo for echo in echoes for _ in range(per_prompt))
        self._drafts = [_ChoiceDraft(index, echo) for index, echo in enumerate(texts)]
        self._frames = [self._frame(draft.index) for draft in self._drafts]

    async def add(self, index: int, event: StreamEvent) -> None:
        """Add an event of a choice."""
        self._drafts[index].add(event)

    def completion(self) -> bytes:
        """Return the complete response."""
        choices = tuple(draft.choice() for draft in self._drafts)
        return msgspec.json.encode(self._with_usage(choices))

    def opening(self) -> bytes:
        """Return the first chunk of each choice: the prompt if it is echoed, otherwise no text."""
        return b"".join(self._chunk(TextChoice(index=draft.index, text=draft.echo)) for draft in self._drafts)

    def chunk(self, index: int, event: StreamEvent) -> bytes:
        """Return the chunk for an event of a choice.

        Chunks with text differ in a few bytes only, so a token costs no more than the encoding of its text.
        """
        if isinstance(event, ContentDelta) and not event.logprobs:
            self._drafts[index].skip(event.text)
            before, after = self._frames[index]
            return before + msgspec.json.encode(event.text) + after
        return self._chunk(self._drafts[index].delta(event))

    def closing(self) -> bytes:
        """Return the end of the stream, with the token usage if the client asked for it."""
        if not self._include_usage:
            return DONE
        return sse_event(msgspec.json.encode(self._with_usage(()))) + DONE

    def _with_usage(self, choices: tuple[TextChoice, ...]) -> TextCompletion:
        """Add the token usage of all choices. As at OpenAI, each prompt counts once."""
        usages = [draft.usage for draft in self._drafts]
        firsts = usages[:: self._per_prompt]
        usage = Usage(
            sum(usage.prompt_tokens for usage in firsts),
            sum(usage.completion_tokens for usage in usages),
            sum(usage.cached_tokens for usage in firsts),
        )
        return msgspec.structs.replace(self._template, choices=choices, usage=completion_usage(usage))

    def _frame(self, index: int) -> tuple[bytes, bytes]:
        """Return the bytes before and after the text of a chunk."""
        # quotation marks in the id or the model's name are escaped, so the pattern matches in this place only
        before, _, after = self._chunk(TextChoice(index=index, text="")).partition(_EMPTY_TEXT)
        return before + _EMPTY_TEXT.removesuffix(b'""'), after

    def _chunk(self, choice: TextChoice) -> bytes:
        return sse_event(msgspec.json.encode(msgspec.structs.replace(self._template, choices=(choice,))))


class _ChoiceDraft:
    """Assembles a choice from the events of its stream."""

    def __init__(self, index: int, echo: str) -> None:
        self.index, self.echo = index, echo
        self.usage = Usage(0, 0)
        self._texts = [echo]
        self._logprobs: TextLogprobs | None = None
        self._reason: Literal["stop", "length"] | None = None
        self._offset = len(echo)

    def add(self, event: StreamEvent) -> None:
        """Add an event."""
        delta = self.delta(event)
        self._texts.append(delta.text)
        self._reason = delta.finish_reason
        if delta.logprobs:
            self._logprobs = _concatenate(self._logprobs, delta.logprobs)

    def choice(self) -> TextChoice:
        """Return the complete choice."""
        return TextChoice(
            index=self.index, text="".join(self._texts), logprobs=self._logprobs, finish_reason=self._reason
        )

    def delta(self, event: StreamEvent) -> TextChoice:
        """Return the part of the choice that an event adds."""
        if isinstance(event, Finished):
            self.usage = event.usage
            return TextChoice(index=self.index, text="", finish_reason="length" if event.reason == "length" else "stop")
        assert isinstance(event, ContentDelta), "plain turns have no reasoning and no calls"
        logprobs = _text_logprobs(event.logprobs, self._offset) if event.logprobs else None
        self.skip(event.text)
        return TextChoice(index=self.index, text=event.text, logprobs=logprobs)

    def skip(self, text: str) -> None:
        """Advance the character offset past a text."""
        self._offset += len(text)


def _with_param(error: RequestError, param: str) -> RequestError:
    """Name the prompt that an error is about, because a request may contain several."""
    if isinstance(error, ContextLengthExceededError):
        return FieldError(param=param, code="context_length_exceeded", detail=str(error))
    if isinstance(error, InvalidParameterError) and error.param == "prompt":
        return InvalidParameterError(param=param, detail=error.detail)
    return error


def _chunk_sender(exchange: Exchange, encoder: "TextEncoder") -> EventHandler:
    async def send(index: int, event: StreamEvent) -> None:
        await exchange.send_events(encoder.chunk(index, event))

    return send


def _text_logprobs(tokens: Sequence[TokenLogprob], offset: int) -> TextLogprobs:
    """Convert the tokens of a text that starts at a character offset of the answer."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    logprobs = TextLogprobs(tokens=[], token_logprobs=[], top_logprobs=[], text_offset=[])
    for token in tokens:
        chosen = content_logprob(token)
        top: dict[str, float] = {}
        for alternative in chosen.top_logprobs:
            top.setdefault(_token_name(bytes(alternative.bytes)), alternative.logprob)
        name = _token_name(token.token)
        logprobs.tokens.append(name)
        logprobs.token_logprobs.append(chosen.logprob)
        logprobs.top_logprobs.append(top | {name: chosen.logprob})
        logprobs.text_offset.append(offset)
        offset += len(decoder.decode(token.token))
    return logprobs


def _token_name(token: bytes) -> str:
    """Return a token's text, or its bytes in OpenAI's notation if they are not valid UTF-8."""
    try:
        return token.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in token)


def _concatenate(first: TextLogprobs | None, second: TextLogprobs) -> TextLogprobs:
    if first is None:
        return second
    return TextLogprobs(
        **{name: getattr(first, name) + getattr(second, name) for name in TextLogprobs.__struct_fields__}
    )

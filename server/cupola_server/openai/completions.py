"""POST /v1/completions."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from uuid import uuid4

import msgspec

from cupola.errors import ContextLengthExceededError, InvalidParameterError, RequestError
from cupola.frontend import EngineView, GenerateRequest, TextPrompt, TokenPrompt
from cupola_server.openai.answers import Answer, ChatTurns, Prepared
from cupola_server.openai.choices import Receiver, receive
from cupola_server.openai.completions_replies import TextReplies
from cupola_server.openai.conversation import unsupported
from cupola_server.openai.decoding import BodyDecoder
from cupola_server.openai.errors import FieldError
from cupola_server.openai.exchange import Exchange
from cupola_server.openai.pieces import Piece
from cupola_server.openai.prompts import Prompts, sorted_out
from cupola_server.openai.schema import ChatRequest
from cupola_server.openai.schema.completions import TextCompletionRequest
from cupola_server.openai.translate import to_chat_ask

_MOST_ANSWERS = 64
_DEFAULT_MAX_TOKENS = 16
_OF_CHAT = set(ChatRequest.__struct_fields__) & set(TextCompletionRequest.__struct_fields__) - {"logprobs", "n"}


class TextCompletions:
    """Continues texts. Turns of the engine last exactly as long as their context here, however the request ends."""

    def __init__(self, engine: EngineView) -> None:
        self._engine = engine
        self._turns = ChatTurns(engine)
        self._decoder = BodyDecoder(TextCompletionRequest)

    async def create(self, exchange: Exchange) -> None:
        """Answer one request, streaming or not."""
        request = self._decoder.decode(await exchange.json_body())
        prompts = sorted_out(request.prompt, "prompt", most=_MOST_ANSWERS)
        turn = to_turn(request, prompts)
        count = request.n or 1
        echoes = await self._echoes(request, prompts)
        async with self._opened(prompts, turn, count) as answers:
            include_usage = bool(request.stream_options and request.stream_options.include_usage)
            replies = TextReplies(answers[0].model.id, echoes, per_prompt=count, include_usage=include_usage)
            if request.stream:
                await exchange.start_events(replies.opening())
            await receive(answers, _sender(exchange, replies) if request.stream else replies.note)
        if request.stream:
            await exchange.end_events(replies.closing())
        else:
            await exchange.reply(200, replies.whole())

    async def _echoes(self, request: TextCompletionRequest, prompts: Prompts) -> Sequence[str]:
        """Return the text that comes before each prompt's answers."""
        if not request.echo:
            return [""] * len(prompts.items)
        return [
            one if isinstance(one, str) else await self._engine.detokenize(request.model, one) for one in prompts.items
        ]

    @asynccontextmanager
    async def _opened(self, prompts: Prompts, turn: GenerateRequest, count: int) -> AsyncIterator[Sequence[Answer]]:
        """Run all turns. Entering waits until each is accepted; leaving cancels them."""
        async with AsyncExitStack() as stack:
            answers: list[Answer] = []
            for number, one in enumerate(prompts.items):
                prompt = TextPrompt(one) if isinstance(one, str) else TokenPrompt(one)
                prepared = _prepared(msgspec.structs.replace(turn, prompt=prompt))
                try:
                    for choice in range(count):
                        answer = await stack.enter_async_context(self._turns.open(prepared, choice))
                        answers.append(answer)
                except RequestError as error:
                    raise _located(error, prompts.where(number)) from None
            yield answers


def to_turn(request: TextCompletionRequest, prompts: Prompts) -> GenerateRequest:
    """Translate what is no prompt: as a chat without messages, for all those fields mean the same there.

    Raises:
        FieldError: Names the field that cannot be honoured.
    """
    count = request.n or 1
    if len(prompts.items) * count > _MOST_ANSWERS:
        detail = f"{len(prompts.items)} prompts with {count} answers each are more than the {_MOST_ANSWERS} possible."
        raise FieldError(param="n", code="invalid_value", detail=detail)
    if request.best_of not in (None, 1, count):
        raise unsupported("best_of", "nothing is chosen among more answers than are returned; leave it out")
    if request.suffix:
        raise unsupported("suffix", "models here continue a text and fill no gaps")
    if request.echo and request.logprobs is not None:
        raise unsupported("logprobs", "those of a prompt are not computed, so that it goes without 'echo'")
    shared = {name: getattr(request, name) for name in _OF_CHAT}
    shared["max_tokens"] = _DEFAULT_MAX_TOKENS if request.max_tokens is None else request.max_tokens
    asked = request.logprobs is not None
    return to_chat_ask(ChatRequest(messages=[], logprobs=asked, top_logprobs=request.logprobs, **shared)).request


def _located(error: RequestError, param: str) -> RequestError:
    """Name the prompt that an error is about as the client does, who may have sent several."""
    if isinstance(error, ContextLengthExceededError):
        return FieldError(param=param, code="context_length_exceeded", detail=str(error))
    if isinstance(error, InvalidParameterError) and error.param == "prompt":
        return InvalidParameterError(param=param, detail=error.detail)
    return error


def _prepared(turn: GenerateRequest) -> Prepared:
    return Prepared(turn, parser=None, call_id=lambda: uuid4().hex, reasoning=None, reasoning_opened=False)


def _sender(exchange: Exchange, replies: TextReplies) -> Receiver:
    async def send(index: int, piece: Piece) -> None:
        await exchange.send_events(replies.chunk(index, piece))

    return send

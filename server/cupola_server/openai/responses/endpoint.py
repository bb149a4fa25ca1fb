"""POST /v1/responses, and GET, DELETE, cancel and the list of input items under /v1/responses/{id}."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import count

import msgspec
from msgspec.structs import replace

from cupola.errors import ContextLengthExceededError
from cupola.frontend import ChatPrompt, EngineView
from cupola_server.openai.errors import ErrorReply, FieldError, ResponseNotFoundError, ResponseStoreError
from cupola_server.openai.exchange import Exchange
from cupola_server.openai.responses.ask import to_ask
from cupola_server.openai.responses.background import UNFINISHED, Background
from cupola_server.openai.responses.checks import check, check_count, check_include, check_retrieval
from cupola_server.openai.responses.events import (
    Event,
    ResponseCompleted,
    ResponseCreated,
    ResponseFailed,
    ResponseIncomplete,
    ResponseInProgress,
    StreamError,
    encode,
)
from cupola_server.openai.responses.intake import RequestDecoder, items_of
from cupola_server.openai.responses.items import Item
from cupola_server.openai.responses.output import Output
from cupola_server.openai.responses.paging import page
from cupola_server.openai.responses.response import DeletedResponse, InputTokens, Response, StoredResponse
from cupola_server.openai.responses.schema import InputItemsQuery, InputTokensRequest, ResponseRequest, RetrieveQuery
from cupola_server.openai.responses.shown import begun, failed
from cupola_server.openai.responses.store import ResponseStore
from cupola_server.openai.responses.writing import Tell, write
from cupola_server.openai.stream import AnswerStream
from cupola_server.openai.tools import TOOL_FORMATS, ToolFormat
from cupola_server.openai.turns import ChatTurns, PreparedTurn


class Responses:
    """Answers requests for responses. But for background ones, a turn lasts as long as its context here."""

    def __init__(
        self, engine: EngineView, store: ResponseStore, tool_formats: Sequence[ToolFormat] = TOOL_FORMATS
    ) -> None:
        self._engine = engine
        self._turns = ChatTurns(engine, tool_formats)
        self._store = store
        self._background = Background(store)
        self._decoder = RequestDecoder(ResponseRequest)
        self._count_decoder = RequestDecoder(InputTokensRequest)

    async def create(self, exchange: Exchange) -> None:
        """Write a response: whole, streaming or in the background."""
        request = self._decoder.decode(await exchange.json_body())
        conversation, prepared = await self._prepare(request)
        if request.store is not False:
            await self._store.prepare()
        if request.background:
            await self._write_later(exchange, request, conversation, prepared)
        elif request.stream:
            await self._stream(exchange, request, conversation, prepared)
        else:
            async with self._open(prepared) as answer:
                response = await self._write(answer, begun(request, answer.model.id), Output())
            response = await self._keep(response, conversation)
            await exchange.reply(200, msgspec.json.encode(response))

    async def count_input(self, exchange: Exchange) -> None:
        """Tell how many tokens the prompt of a response would have, without asking the model."""
        counted = self._count_decoder.decode(await exchange.json_body())
        check_count(counted)
        request = counted.as_request()
        _, prepared = await self._prepare(request)
        prompt = prepared.request.prompt
        assert isinstance(prompt, ChatPrompt)
        tokens = await self._engine.tokenize(request.model, prompt)
        await exchange.reply(200, msgspec.json.encode(InputTokens(input_tokens=len(tokens))))

    async def retrieve(self, exchange: Exchange) -> None:
        """Show a stored response."""
        check_retrieval(exchange.query(RetrieveQuery))
        record = await self._background.find(exchange.path_params["id"])
        await exchange.reply(200, msgspec.json.encode(record.response))

    async def input_items(self, exchange: Exchange) -> None:
        """List what went into a stored response, earlier responses included."""
        query = exchange.query(InputItemsQuery)
        check_include(query.include)
        record = await self._background.find(exchange.path_params["id"])
        await exchange.reply(200, msgspec.json.encode(page(record.input, query)))

    async def delete(self, exchange: Exchange) -> None:
        """Forget a stored response. One that is being written is cancelled first."""
        id_ = exchange.path_params["id"]
        await self._background.cancel(id_)
        if not await self._store.delete(id_):
            raise ResponseNotFoundError(response=id_)
        await exchange.reply(200, msgspec.json.encode(DeletedResponse(id=id_)))

    async def cancel(self, exchange: Exchange) -> None:
        """Cancel a background response. One that is over stays as it is."""
        id_ = exchange.path_params["id"]
        record = await self._background.find(id_)
        if not record.response.background:
            detail = "Cannot cancel a synchronous response; only those created with 'background': true can be."
            raise FieldError(param="response_id", code="invalid_value", detail=detail)
        await self._background.cancel(id_)
        record = await self._background.find(id_)
        await exchange.reply(200, msgspec.json.encode(record.response))

    async def _prepare(self, request: ResponseRequest) -> tuple[tuple[Item, ...], PreparedTurn]:
        """Return the whole conversation, and what the model is asked."""
        check(request)
        conversation = (*await self._earlier(request), *items_of(request))
        return conversation, await self._turns.prepare(to_ask(request, conversation))

    async def _stream(
        self, exchange: Exchange, request: ResponseRequest, conversation: tuple[Item, ...], prepared: PreparedTurn
    ) -> None:
        number = count().__next__
        output = Output(number)
        async with self._open(prepared) as answer:
            response = begun(request, answer.model.id)

            def failing(reply: ErrorReply) -> bytes:
                events, told = output.break_off(), reply.error
                error = StreamError(number(), told.code, told.message, told.param)
                return encode([*events, error, ResponseFailed(number(), failed(response, output.items, told))])

            async def tell(events: list[Event]) -> None:
                await exchange.send_events(encode(events))

            opening = [ResponseCreated(number(), response), ResponseInProgress(number(), response)]
            await exchange.start_events(encode(opening), failing)
            response = await self._write(answer, response, output, tell)
        response = await self._keep(response, conversation)
        kind = ResponseIncomplete if response.status == "incomplete" else ResponseCompleted
        await exchange.end_events(encode([kind(number(), response)]))

    async def _write_later(
        self, exchange: Exchange, request: ResponseRequest, conversation: tuple[Item, ...], prepared: PreparedTurn
    ) -> None:
        model = (await self._engine.resolve(request.model)).info.id
        response = begun(request, model, "queued")

        async def written(response: Response, output: Output) -> Response:
            async with self._open(prepared) as answer:
                return await self._write(answer, response, output)

        await self._background.add(StoredResponse(response=response, input=conversation))
        exchange.outlive_client()
        await exchange.reply(200, msgspec.json.encode(response))
        await self._background.run(response.id, written)

    async def _write(
        self, answer: AnswerStream, response: Response, output: Output, tell: Tell | None = None
    ) -> Response:
        return await write(answer, response, output, tell=tell or _tell_nobody, engine=self._engine)

    @asynccontextmanager
    async def _open(self, prepared: PreparedTurn) -> AsyncIterator[AnswerStream]:
        try:
            async with self._turns.start(prepared) as answer:
                yield answer
        except ContextLengthExceededError as error:
            detail = (
                f"This model's context holds {error.context_length} tokens; the request asks for "
                f"{error.prompt_tokens + error.completion_tokens} ({error.prompt_tokens} in the input, "
                f"{error.completion_tokens} in the output). Shorten the input or lower 'max_output_tokens'."
            )
            raise FieldError(param="input", code="context_length_exceeded", detail=detail) from error

    async def _earlier(self, request: ResponseRequest) -> tuple[Item, ...]:
        """Return what was said up to the previous response. Its instructions are not among it, as OpenAI has it."""
        if request.previous_response_id is None:
            return ()
        try:
            record = await self._background.find(request.previous_response_id)
        except ResponseNotFoundError as error:
            detail = f"Previous response with id '{request.previous_response_id[:80]}' not found."
            param, code = "previous_response_id", "previous_response_not_found"
            raise FieldError(param=param, code=code, detail=detail) from error
        if record.response.status in UNFINISHED:
            detail = "The previous response is still being written; go on when it is complete."
            raise FieldError(param="previous_response_id", code="invalid_value", detail=detail)
        return (*record.input, *record.response.output)

    async def _keep(self, response: Response, conversation: tuple[Item, ...]) -> Response:
        """Store a response. An answer that is there is not thrown away because the disk fails: it says so instead."""
        if response.store:
            try:
                await self._store.put(StoredResponse(response=response, input=conversation))
            except ResponseStoreError:  # the folder has told the log
                return replace(response, store=False)
        return response


async def _tell_nobody(events: list[Event]) -> None:
    """Keep the events for oneself."""

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
from cupola_server.openai.responses.background import UNFINISHED, BackgroundResponses
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
from cupola_server.openai.responses.input import RequestDecoder, input_items, page_of
from cupola_server.openai.responses.items import Item
from cupola_server.openai.responses.output import Output, SendEvents, write
from cupola_server.openai.responses.params import check, check_count, check_include, check_retrieval, to_chat_params
from cupola_server.openai.responses.response import (
    DeletedResponse,
    InputTokens,
    Response,
    StoredResponse,
    fail_response,
    start_response,
)
from cupola_server.openai.responses.schema import InputItemsQuery, InputTokensRequest, ResponseRequest, RetrieveQuery
from cupola_server.openai.responses.store import ResponseStore
from cupola_server.openai.stream import AnswerStream
from cupola_server.openai.tools import TOOL_FORMATS, ToolFormat
from cupola_server.openai.turns import ChatTurns, PreparedTurn


class Responses:
    """Serves responses. Except in the background, a turn is cancelled when its request ends."""

    def __init__(
        self, engine: EngineView, store: ResponseStore, tool_formats: Sequence[ToolFormat] = TOOL_FORMATS
    ) -> None:
        self._engine = engine
        self._turns = ChatTurns(engine, tool_formats)
        self._store = store
        self._background = BackgroundResponses(store)
        self._decoder = RequestDecoder(ResponseRequest)
        self._count_decoder = RequestDecoder(InputTokensRequest)

    async def create(self, exchange: Exchange) -> None:
        """Create a response, streamed or in the background if requested."""
        request = self._decoder.decode(await exchange.json_body())
        conversation, prepared = await self._prepare(request)
        if request.store is not False:
            await self._store.prepare()
        if request.background:
            await self._write_in_background(exchange, request, conversation, prepared)
        elif request.stream:
            await self._stream(exchange, request, conversation, prepared)
        else:
            async with self._start(prepared) as answer:
                response = await self._write(answer, start_response(request, answer.model.id), Output())
            response = await self._store_result(response, conversation)
            await exchange.reply(200, msgspec.json.encode(response))

    async def count_input(self, exchange: Exchange) -> None:
        """Send the number of tokens of a response's prompt."""
        counted = self._count_decoder.decode(await exchange.json_body())
        check_count(counted)
        request = counted.as_request()
        _, prepared = await self._prepare(request)
        prompt = prepared.request.prompt
        assert isinstance(prompt, ChatPrompt)
        tokens = await self._engine.tokenize(request.model, prompt)
        await exchange.reply(200, msgspec.json.encode(InputTokens(input_tokens=len(tokens))))

    async def retrieve(self, exchange: Exchange) -> None:
        """Send a stored response."""
        check_retrieval(exchange.query(RetrieveQuery))
        record = await self._background.find(exchange.path_params["id"])
        await exchange.reply(200, msgspec.json.encode(record.response))

    async def input_items(self, exchange: Exchange) -> None:
        """List the input items of a stored response, including earlier responses."""
        query = exchange.query(InputItemsQuery)
        check_include(query.include)
        record = await self._background.find(exchange.path_params["id"])
        await exchange.reply(200, msgspec.json.encode(page_of(record.input, query)))

    async def delete(self, exchange: Exchange) -> None:
        """Delete a stored response. A running one is cancelled first."""
        id_ = exchange.path_params["id"]
        await self._background.cancel(id_)
        if not await self._store.delete(id_):
            raise ResponseNotFoundError(response=id_)
        await exchange.reply(200, msgspec.json.encode(DeletedResponse(id=id_)))

    async def cancel(self, exchange: Exchange) -> None:
        """Cancel a background response. A finished one is not changed."""
        id_ = exchange.path_params["id"]
        record = await self._background.find(id_)
        if not record.response.background:
            detail = (
                "Cannot cancel a synchronous response. Only those created with 'background': true can be cancelled."
            )
            raise FieldError(param="response_id", code="invalid_value", detail=detail)
        await self._background.cancel(id_)
        record = await self._background.find(id_)
        await exchange.reply(200, msgspec.json.encode(record.response))

    async def _prepare(self, request: ResponseRequest) -> tuple[tuple[Item, ...], PreparedTurn]:
        """Return the whole conversation and the prepared turn."""
        check(request)
        conversation = (*await self._previous_items(request), *input_items(request))
        return conversation, await self._turns.prepare(to_chat_params(request, conversation))

    async def _stream(
        self, exchange: Exchange, request: ResponseRequest, conversation: tuple[Item, ...], prepared: PreparedTurn
    ) -> None:
        number = count().__next__
        output = Output(number)
        async with self._start(prepared) as answer:
            response = start_response(request, answer.model.id)

            def error_events(reply: ErrorReply) -> bytes:
                events, problem = output.abort(), reply.error
                error = StreamError(number(), problem.code, problem.message, problem.param)
                return encode(
                    [*events, error, ResponseFailed(number(), fail_response(response, output.items, problem))]
                )

            async def send(events: list[Event]) -> None:
                await exchange.send_events(encode(events))

            opening = [ResponseCreated(number(), response), ResponseInProgress(number(), response)]
            await exchange.start_events(encode(opening), error_events)
            response = await self._write(answer, response, output, send)
        response = await self._store_result(response, conversation)
        kind = ResponseIncomplete if response.status == "incomplete" else ResponseCompleted
        await exchange.end_events(encode([kind(number(), response)]))

    async def _write_in_background(
        self, exchange: Exchange, request: ResponseRequest, conversation: tuple[Item, ...], prepared: PreparedTurn
    ) -> None:
        model = (await self._engine.resolve(request.model)).info.id
        response = start_response(request, model, "queued")

        async def write_output(response: Response, output: Output) -> Response:
            async with self._start(prepared) as answer:
                return await self._write(answer, response, output)

        await self._background.add(StoredResponse(response=response, input=conversation))
        exchange.outlive_client()
        await exchange.reply(200, msgspec.json.encode(response))
        await self._background.run(response.id, write_output)

    async def _write(
        self, answer: AnswerStream, response: Response, output: Output, send: SendEvents | None = None
    ) -> Response:
        return await write(answer, response, output, send=send or _discard, engine=self._engine)

    @asynccontextmanager
    async def _start(self, prepared: PreparedTurn) -> AsyncIterator[AnswerStream]:
        try:
            async with self._turns.start(prepared) as answer:
                yield answer
        except ContextLengthExceededError as error:
            detail = (
                f"This model's maximum context length is {error.context_length} tokens, but the request needs "
                f"{error.prompt_tokens + error.completion_tokens} ({error.prompt_tokens} in the input, "
                f"{error.completion_tokens} in the output). Shorten the input or lower 'max_output_tokens'."
            )
            raise FieldError(param="input", code="context_length_exceeded", detail=detail) from error

    async def _previous_items(self, request: ResponseRequest) -> tuple[Item, ...]:
        """Return the items up to the previous response. As at OpenAI, its instructions are not included."""
        if request.previous_response_id is None:
            return ()
        try:
            record = await self._background.find(request.previous_response_id)
        except ResponseNotFoundError as error:
            detail = f"Previous response with id '{request.previous_response_id[:80]}' not found."
            param, code = "previous_response_id", "previous_response_not_found"
            raise FieldError(param=param, code=code, detail=detail) from error
        if record.response.status in UNFINISHED:
            detail = "The previous response is not complete yet. Wait until it is."
            raise FieldError(param="previous_response_id", code="invalid_value", detail=detail)
        return (*record.input, *record.response.output)

    async def _store_result(self, response: Response, conversation: tuple[Item, ...]) -> Response:
        """Store a response. If that fails, the response is still returned, with `store` set to false."""
        if response.store:
            try:
                await self._store.put(StoredResponse(response=response, input=conversation))
            except ResponseStoreError:  # logged by the store
                return replace(response, store=False)
        return response


async def _discard(events: list[Event]) -> None:
    """Discard the events of a response that is not streamed."""

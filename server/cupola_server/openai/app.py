"""The routes of the front-end, from which both the routing and the OpenAPI document are made."""

from collections.abc import Iterator, Sequence

from cupola.frontend import ASGIApp, EngineView, Settings
from cupola_server.openai.chat import ChatCompletions
from cupola_server.openai.completions import TextCompletions
from cupola_server.openai.embeddings import EmbeddingVectors
from cupola_server.openai.models import Models
from cupola_server.openai.responses.endpoint import Responses
from cupola_server.openai.responses.events import Event
from cupola_server.openai.responses.response import DeletedResponse, InputTokens, ItemList, Response
from cupola_server.openai.responses.schema import InputItemsQuery, InputTokensRequest, ResponseRequest, RetrieveQuery
from cupola_server.openai.responses.store import ResponseStore
from cupola_server.openai.schema import ChatCompletion, ChatCompletionChunk, ChatRequest, Model, ModelList
from cupola_server.openai.schema.completions import TextCompletion, TextCompletionRequest
from cupola_server.openai.schema.embeddings import EmbeddingsReply, EmbeddingsRequest
from cupola_server.openai.schema.tokenize import DetokenizeReply, DetokenizeRequest, TokenizeReply, TokenizeRequest
from cupola_server.openai.tokenize import Tokenization
from cupola_server.openai.tools import ToolFormat
from cupola_server.openapi import Api, Operation

RUNS_A_MODEL = (404, 409, 429, 500, 501, 502, 503, 504, 507)
"""The error statuses of requests that need a model."""


def build_app(engine: EngineView, settings: Settings, tool_formats: Sequence[ToolFormat]) -> ASGIApp:
    """Create the ASGI application of the front-end."""
    chat = _chat(ChatCompletions(engine, tool_formats))
    responses = _responses(Responses(engine, ResponseStore.from_settings(settings), tool_formats))
    return Api([*chat, *responses, *_models(engine), *_texts(engine), *_tokens(engine)])


def _chat(chat: ChatCompletions) -> Iterator[Operation]:
    yield Operation(
        method="POST",
        path="/v1/chat/completions",
        handler=chat.create,
        summary="Create a chat completion",
        request=ChatRequest,
        reply=ChatCompletion,
        events=ChatCompletionChunk,
        errors=RUNS_A_MODEL,
    )


def _responses(responses: Responses) -> Iterator[Operation]:
    yield Operation(
        method="POST",
        path="/v1/responses",
        handler=responses.create,
        summary="Create a response",
        request=ResponseRequest,
        reply=Response,
        events=Event,
        errors=RUNS_A_MODEL,
    )
    yield Operation(
        method="POST",
        path="/v1/responses/input_tokens",
        handler=responses.count_input,
        summary="Count the tokens of a response's prompt",
        request=InputTokensRequest,
        reply=InputTokens,
        errors=RUNS_A_MODEL,
    )
    yield from _stored_responses(responses)


def _stored_responses(responses: Responses) -> Iterator[Operation]:
    yield Operation(
        method="GET",
        path="/v1/responses/{id}",
        handler=responses.retrieve,
        summary="Get a stored response",
        query=RetrieveQuery,
        reply=Response,
        errors=(404,),
    )
    yield Operation(
        method="DELETE",
        path="/v1/responses/{id}",
        handler=responses.delete,
        summary="Delete a stored response",
        reply=DeletedResponse,
        errors=(404,),
    )
    yield Operation(
        method="POST",
        path="/v1/responses/{id}/cancel",
        handler=responses.cancel,
        summary="Cancel a background response",
        reply=Response,
        errors=(400, 404),
    )
    yield Operation(
        method="GET",
        path="/v1/responses/{id}/input_items",
        handler=responses.input_items,
        summary="List the input items of a stored response",
        query=InputItemsQuery,
        reply=ItemList,
        errors=(404,),
    )


def _models(engine: EngineView) -> Iterator[Operation]:
    models = Models(engine)
    yield Operation(
        method="GET",
        path="/v1/models",
        handler=models.list,
        summary="List the models available without a download",
        reply=ModelList,
    )
    yield Operation(
        method="GET",
        path="/v1/models/{id:path}",
        handler=models.retrieve,
        summary="Get a model",
        reply=Model,
        errors=(404,),
    )


def _texts(engine: EngineView) -> Iterator[Operation]:
    yield Operation(
        method="POST",
        path="/v1/completions",
        handler=TextCompletions(engine).create,
        summary="Create a text completion",
        request=TextCompletionRequest,
        reply=TextCompletion,
        events=TextCompletion,
        errors=RUNS_A_MODEL,
    )
    yield Operation(
        method="POST",
        path="/v1/embeddings",
        handler=EmbeddingVectors(engine).create,
        summary="Create embeddings",
        request=EmbeddingsRequest,
        reply=EmbeddingsReply,
        errors=RUNS_A_MODEL,
    )


def _tokens(engine: EngineView) -> Iterator[Operation]:
    tokenization = Tokenization(engine)
    yield Operation(
        method="POST",
        path="/tokenize",
        handler=tokenization.tokenize,
        summary="Convert a prompt to tokens",
        request=TokenizeRequest,
        reply=TokenizeReply,
        errors=RUNS_A_MODEL,
    )
    yield Operation(
        method="POST",
        path="/detokenize",
        handler=tokenization.detokenize,
        summary="Convert tokens to text",
        request=DetokenizeRequest,
        reply=DetokenizeReply,
        errors=RUNS_A_MODEL,
    )

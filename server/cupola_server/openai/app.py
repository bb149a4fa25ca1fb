"""The front-end's routes: one entry each, from which both the routing and the OpenAPI document come."""

from collections.abc import Iterator

from cupola import ASGIApp, EngineView
from cupola_server.openai.chat import ChatCompletions
from cupola_server.openai.models import Models
from cupola_server.openai.schema import ChatCompletion, ChatCompletionChunk, ChatRequest, Model, ModelList
from cupola_server.openapi import Api, Operation

RUNS_A_MODEL = (404, 409, 429, 500, 501, 502, 503, 507)
"""What may go wrong when a request needs a model."""


def build_app(engine: EngineView) -> ASGIApp:
    """Build the ASGI application of the front-end over an engine."""
    return Api([*_chat(engine), *_models(engine)])


def _chat(engine: EngineView) -> Iterator[Operation]:
    chat = ChatCompletions(engine)
    yield Operation(
        method="POST",
        path="/v1/chat/completions",
        handler=chat.create,
        summary="Answer a chat",
        request=ChatRequest,
        reply=ChatCompletion,
        events=ChatCompletionChunk,
        errors=RUNS_A_MODEL,
    )


def _models(engine: EngineView) -> Iterator[Operation]:
    models = Models(engine)
    yield Operation(
        method="GET", path="/v1/models", handler=models.list, summary="List what can run now", reply=ModelList
    )
    yield Operation(
        method="GET",
        path="/v1/models/{id:path}",
        handler=models.retrieve,
        summary="Show one model",
        reply=Model,
        errors=(404,),
    )

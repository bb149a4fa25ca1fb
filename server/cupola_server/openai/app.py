"""The front-end's routes."""

from starlette.routing import Route, Router

from cupola import ASGIApp, EngineView
from cupola_server.openai.chat import ChatCompletions
from cupola_server.openai.exchange import Endpoint, not_found
from cupola_server.openai.models import Models


def build_app(engine: EngineView) -> ASGIApp:
    """Build the ASGI application of the front-end over an engine."""
    chat, models = ChatCompletions(engine), Models(engine)
    routes = [
        Route("/v1/chat/completions", Endpoint(POST=chat.create)),
        Route("/v1/models", Endpoint(GET=models.list)),
        Route("/v1/models/{id:path}", Endpoint(GET=models.retrieve)),
    ]
    return Router(routes, redirect_slashes=False, default=not_found)

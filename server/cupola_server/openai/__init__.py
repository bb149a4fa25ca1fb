"""The OpenAI front-end: chat completions, responses, embeddings and models under /v1.

Loaded through the entry point `openai`. Importing this package does not import the web framework; calling `app` does.
"""

from collections.abc import Iterable, Sequence

from cupola.frontend import ApiFrontend, ASGIApp, EngineView, Settings, hookimpl
from cupola_server.openai.tools import TOOL_FORMATS, ToolFormat

__all__ = ["OpenAIFrontend", "api_frontends"]


class OpenAIFrontend(ApiFrontend):
    """Serves the engine to clients written for OpenAI's API.

    Args:
        settings: Set where responses are stored, and for how long.
        tool_formats: The supported formats of tool calls, the most specific first. To add a format, a plugin
            contributes this front-end with it, and the settings disable the built-in plugin `openai`.
    """

    name = "openai"
    prefixes = ("/v1", "/tokenize", "/detokenize")

    def __init__(self, settings: Settings | None = None, *, tool_formats: Sequence[ToolFormat] = TOOL_FORMATS) -> None:
        self._settings = settings or Settings()
        self._tool_formats = tool_formats

    def app(self, engine: EngineView) -> ASGIApp:
        """Create the ASGI application."""
        from cupola_server.openai.app import build_app  # noqa: PLC0415 - imports starlette, which only a server needs

        return build_app(engine, self._settings, self._tool_formats)


@hookimpl
def api_frontends(settings: Settings) -> Iterable[ApiFrontend]:
    """Contribute the front-end."""
    return [OpenAIFrontend(settings)]

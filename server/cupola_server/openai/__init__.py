"""The OpenAI front-end: chat completions, responses and models under /v1, in OpenAI's shapes.

Loaded through the entry point `openai`. Importing this package loads no web framework: that waits for `app`.
"""

from collections.abc import Iterable, Sequence

from cupola.frontend import ApiFrontend, ASGIApp, EngineView, Settings, hookimpl
from cupola_server.openai.tools import TOOL_FORMATS, ToolFormat

__all__ = ["OpenAIFrontend", "api_frontends"]


class OpenAIFrontend(ApiFrontend):
    """Serves the engine to clients written for OpenAI's API.

    Args:
        settings: Where responses are stored, and for how long.
        tool_formats: The formats in which models write tool calls, the most telling sign first. A plugin that knows
            another one contributes this front-end with it, and the built-in plugin `openai` is disabled.
    """

    name = "openai"
    prefixes = ("/v1", "/tokenize", "/detokenize")

    def __init__(self, settings: Settings | None = None, *, tool_formats: Sequence[ToolFormat] = TOOL_FORMATS) -> None:
        self._settings = settings or Settings()
        self._tool_formats = tool_formats

    def app(self, engine: EngineView) -> ASGIApp:
        """Build the ASGI application."""
        from cupola_server.openai.app import build_app  # noqa: PLC0415 - brings starlette, which only serving needs

        return build_app(engine, self._settings, self._tool_formats)


@hookimpl
def api_frontends(settings: Settings) -> Iterable[ApiFrontend]:
    """Contribute the front-end."""
    return [OpenAIFrontend(settings)]

"""Cupola's own front-end, under /cupola: catalog, downloads, loading. OpenAI's API has no words for them.

Loaded through the entry point `native`. Importing this package loads no web framework: that waits for `app`.
"""

from collections.abc import Iterable

from cupola.frontend import ApiFrontend, ASGIApp, EngineView, Settings, hookimpl

__all__ = ["NativeFrontend", "api_frontends"]


class NativeFrontend(ApiFrontend):
    """Serves `cupola.client`, the command line, and whoever else wants to see and steer."""

    name = "native"
    prefixes = ("/cupola",)

    def app(self, engine: EngineView) -> ASGIApp:
        """Build the ASGI application."""
        from cupola_server.native.app import build_app  # noqa: PLC0415 - brings starlette, which only serving needs

        return build_app(engine)


@hookimpl
def api_frontends(settings: Settings) -> Iterable[ApiFrontend]:  # noqa: ARG001 - nothing of it can be set
    """Contribute the front-end."""
    return [NativeFrontend()]

"""Cupola's own front-end under /cupola: catalogs, downloads and loaded models, which OpenAI's API does not cover.

Loaded through the entry point `native`. Importing this package does not import the web framework; calling `app` does.
"""

from collections.abc import Iterable

from cupola.frontend import ApiFrontend, ASGIApp, EngineView, Settings, hookimpl

__all__ = ["NativeFrontend", "api_frontends"]


class NativeFrontend(ApiFrontend):
    """Serves `cupola.client`, the command line and other programs that manage the service."""

    name = "native"
    prefixes = ("/cupola",)

    def app(self, engine: EngineView) -> ASGIApp:
        """Create the ASGI application."""
        from cupola_server.native.app import build_app  # noqa: PLC0415 - imports starlette, which only a server needs

        return build_app(engine)


@hookimpl
def api_frontends(settings: Settings) -> Iterable[ApiFrontend]:  # noqa: ARG001 - it has no settings
    """Contribute the front-end."""
    return [NativeFrontend()]

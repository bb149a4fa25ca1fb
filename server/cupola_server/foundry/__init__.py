"""The Foundry Local front-end: the HTTP APIs (dialects) of its releases, for clients written for the original.

Loaded through the entry point `foundry`. Dialect A is the service of 0.3 to 0.8 (/openai, /foundry), B and C are the
web service of the SDKs 1.x and 2.x (/status, /models, /shutdown, /catalogs). Their paths do not collide.
"""

from collections.abc import Iterable

from cupola.frontend import ApiFrontend, ASGIApp, EngineView, ServiceView, Settings, hookimpl

__all__ = ["FoundryFrontend", "api_frontends"]


class FoundryFrontend(ApiFrontend):
    """Serves the engine to clients written for Foundry Local.

    Args:
        settings: The settings.
    """

    name = "foundry"
    prefixes = (
        "/openai",
        "/foundry",
        "/v1/chat/completions/tokenizer",
        "/status",
        "/models",
        "/shutdown",
        "/catalogs/local",
    )

    def __init__(self, settings: Settings | None = None) -> None:
        self._settings = settings or Settings()
        self._service: ServiceView | None = None

    def attach(self, service: ServiceView) -> None:
        """Receive the service, whose addresses the status shows and which clients can shut down."""
        self._service = service

    def app(self, engine: EngineView) -> ASGIApp:
        """Create the ASGI application."""
        from cupola_server.foundry.app import build_app  # noqa: PLC0415 - imports starlette, which only a server needs

        return build_app(engine, self._settings, self._service)


@hookimpl
def api_frontends(settings: Settings) -> Iterable[ApiFrontend]:
    """Contribute the front-end."""
    return [FoundryFrontend(settings)]

"""The ASGI application of the whole service: every front-end under its path prefixes."""

import logging
from collections.abc import Iterable, Iterator

import msgspec

from cupola.contracts import Receive, Scope, Send
from cupola.errors import PluginConflictError
from cupola.frontend import ApiFrontend, ASGIApp, EngineView, ServiceView
from cupola_server.health import Health
from cupola_server.openai.exchange import ROUTE, Exchange, not_found
from cupola_server.openapi import Api, Operation, document

logger = logging.getLogger(__name__)

_WELCOME = b"Cupola is running.\n"
_PLAIN = ((b"content-type", b"text/plain; charset=utf-8"),)
_OWN_PATHS = ("/", "/healthz", "/readyz", "/openapi.json")


def compose(
    frontends: Iterable[ApiFrontend],
    engine: EngineView,
    health: Health | None = None,
    service: ServiceView | None = None,
) -> ASGIApp:
    """Create the application that routes each request to the front-end with the longest matching prefix.

    The service itself serves "/", /healthz, /readyz and /openapi.json. A front-end that fails to create its application
    is logged and skipped.

    Args:
        frontends: The front-ends.
        engine: The engine that runs the requests.
        health: Records front-ends that failed.
        service: The service for the front-ends to attach to; None if there is none.

    Raises:
        PluginConflictError: Two front-ends have the same prefix.
    """
    health = health or Health()
    claims = _claims(frontends)
    apps: dict[ApiFrontend, ASGIApp] = {}
    for frontend in dict.fromkeys(claims.values()):
        try:
            if service is not None:
                frontend.attach(service)
            apps[frontend] = frontend.app(engine)
        except Exception:
            logger.exception("The front-end %r failed to start; its paths are not served", frontend.name)
            health.failed_plugins.add(frontend.name)
    own = _ServiceEndpoints(health, apps.values())
    return _Composed({prefix: apps[frontend] for prefix, frontend in claims.items() if frontend in apps}, own.api)


def _claims(frontends: Iterable[ApiFrontend]) -> dict[str, ApiFrontend]:
    claims: dict[str, ApiFrontend] = {}
    for frontend in frontends:
        for prefix in frontend.prefixes:
            path = prefix.rstrip("/")
            owner = claims.setdefault(path, frontend)
            if owner is not frontend:
                raise PluginConflictError(kind="path prefix", name=path or "/", first=owner.name, second=frontend.name)
    return claims


class _Composed:
    """Routes requests by prefix. Front-ends receive full paths, and no lifespan events."""

    def __init__(self, apps: dict[str, ASGIApp], own: ASGIApp) -> None:
        self._apps = sorted(apps.items(), key=lambda item: -len(item[0]))
        self._own = own

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _run_lifespan(receive, send)
            return
        path: str = scope["path"]
        if path in _OWN_PATHS[1:]:
            await self._own(scope, receive, send)
            return
        for prefix, app in self._apps:
            if path == prefix or path.startswith(prefix + "/"):
                scope[ROUTE] = f"{prefix}/*"  # until the front-end sets a more specific one
                await app(scope, receive, send)
                return
        if path == _OWN_PATHS[0]:
            await self._own(scope, receive, send)
        else:
            await not_found(scope, receive, send)


class _ServiceEndpoints:
    """The endpoints of the service itself, independent of front-ends."""

    def __init__(self, health: Health, apps: Iterable[ASGIApp]) -> None:
        self.api = Api([*self._operations(), *health.operations()])
        operations = [operation for app in (*apps, self.api) if isinstance(app, Api) for operation in app.operations]
        self._document = msgspec.json.encode(document(operations))

    def _operations(self) -> Iterator[Operation]:
        yield Operation(
            method="GET", path="/", handler=self._welcome, summary="Identify the service", reply="text/plain"
        )
        yield Operation(
            method="GET", path="/openapi.json", handler=self._describe, summary="Get the OpenAPI document", reply=dict
        )

    async def _welcome(self, exchange: Exchange) -> None:
        await exchange.reply(200, _WELCOME, _PLAIN)

    async def _describe(self, exchange: Exchange) -> None:
        await exchange.reply(200, self._document)


async def _run_lifespan(receive: Receive, send: Send) -> None:
    """Run the lifespan protocol. The engine starts and stops outside of the server."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return

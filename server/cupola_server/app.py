"""The ASGI application of the whole service: every front-end under its path prefixes."""

import logging
from collections.abc import Iterable

from cupola import ApiFrontend, ASGIApp, EngineView, PluginConflictError
from cupola.contracts import Receive, Scope, Send
from cupola_server.openai.errors import MethodNotAllowedError
from cupola_server.openai.exchange import not_found, send_error

logger = logging.getLogger(__name__)

_WELCOME = b"Cupola is running.\n"


def compose(frontends: Iterable[ApiFrontend], engine: EngineView) -> ASGIApp:
    """Build the application that hands every request to the front-end whose prefix fits, the longest one first.

    A front-end that cannot build its application is logged and left out; the others serve on.

    Raises:
        PluginConflictError: Two front-ends claim one prefix.
    """
    apps: dict[str, ASGIApp] = {}
    for prefix, frontend in _claims(frontends).items():
        try:
            apps[prefix] = frontend.app(engine)
        except Exception:
            logger.exception("The front-end %r failed to start; nothing answers under %s", frontend.name, prefix)
    return _Composed(apps)


def _claims(frontends: Iterable[ApiFrontend]) -> dict[str, ApiFrontend]:
    claims: dict[str, ApiFrontend] = {}
    for frontend in frontends:
        for prefix in frontend.prefixes:
            path = prefix.rstrip("/")
            holder = claims.setdefault(path, frontend)
            if holder is not frontend:
                raise PluginConflictError(kind="path prefix", name=path or "/", first=holder.name, second=frontend.name)
    return claims


class _Composed:
    """Routes by prefix. Front-ends see full paths; they have no lifespan of their own."""

    def __init__(self, apps: dict[str, ASGIApp]) -> None:
        self._apps = sorted(apps.items(), key=lambda item: -len(item[0]))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _live(receive, send)
            return
        path: str = scope["path"]
        for prefix, app in self._apps:
            if path == prefix or path.startswith(prefix + "/"):
                await app(scope, receive, send)
                return
        if path == "/" and scope["type"] == "http":
            await _welcome(scope, send)
        else:
            await not_found(scope, receive, send)


async def _live(receive: Receive, send: Send) -> None:
    """Go through the lifespan protocol; the engine is started and stopped around the server, not by it."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def _welcome(scope: Scope, send: Send) -> None:
    if scope["method"] not in ("GET", "HEAD"):
        await send_error(send, MethodNotAllowedError(method=scope["method"], path="/", allow="GET"))
        return
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(_WELCOME)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": _WELCOME})

"""The operations of a front-end, and the ASGI application made of them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from starlette.routing import Route, Router

from cupola.contracts import Receive, Scope, Send
from cupola_server.openai.errors import OPENAI_ERRORS, ErrorShape
from cupola_server.openai.exchange import Endpoint, Handler, not_found

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method of one path.

    Attributes:
        method: The HTTP method; GET also serves HEAD.
        path: The path in Starlette's notation, such as "/v1/models/{id:path}".
        handler: Handles the requests.
        summary: A short description for the OpenAPI document.
        request: The type of the body; None if there is no body.
        query: The type whose fields are the query parameters; None if there are none.
        reply: The type of the JSON response, or the media type of another response ("text/plain").
        events: The type of the JSON in server-sent events, if the operation can stream.
        status: The status of successful responses.
        errors: Error statuses besides those of all operations.
        shape: The error format, the same for all methods of a path.
        is_safe: Whether a GET changes no state. One that does, as in Foundry Local's API, does not serve HEAD.
    """

    method: Method
    path: str
    handler: Handler
    summary: str
    request: Any = None
    query: Any = None
    reply: Any
    events: Any = None
    status: int = 200
    errors: tuple[int, ...] = ()
    shape: ErrorShape = OPENAI_ERRORS
    is_safe: bool = True


class Api:
    """An ASGI application that serves operations. Other paths are not found."""

    def __init__(self, operations: Iterable[Operation]) -> None:
        self.operations = tuple(operations)
        paths: dict[str, list[Operation]] = {}
        for operation in self.operations:
            paths.setdefault(operation.path, []).append(operation)
        routes = [Route(path, _endpoint(path, operations)) for path, operations in paths.items()]
        self._router = Router(routes, redirect_slashes=False, default=not_found)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Route a request."""
        await self._router(scope, receive, send)


def _endpoint(path: str, operations: Sequence[Operation]) -> Endpoint:
    handlers = {operation.method: operation.handler for operation in operations}
    head = all(operation.is_safe for operation in operations)
    return Endpoint(path, errors=operations[0].shape, head=head, **handlers)

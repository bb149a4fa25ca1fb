"""A front-end's operations, and the ASGI application made of them."""

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
        method: The HTTP method; GET answers HEAD as well.
        path: As Starlette writes it: "/v1/models/{id:path}".
        handler: What answers.
        summary: A few words for the document.
        request: The Struct that the body is decoded to; None if there is no body.
        query: The Struct whose fields are the query parameters; None if there are none.
        reply: The type of the JSON of a success, or the media type of a reply that is no JSON ("text/plain").
        events: The type of the JSON in each server-sent event, if the operation can stream.
        status: The status of a success.
        errors: Statuses it may answer with beside those that any operation can.
        shape: How its errors are written; the same for every method of a path.
        is_safe: Whether it changes nothing, if it is a GET. One that does, for a dialect's sake, answers no HEAD.
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
    """An ASGI application made of operations. What is not in its table does not answer."""

    def __init__(self, operations: Iterable[Operation]) -> None:
        self.operations = tuple(operations)
        paths: dict[str, list[Operation]] = {}
        for operation in self.operations:
            paths.setdefault(operation.path, []).append(operation)
        routes = [Route(path, _endpoint(path, operations)) for path, operations in paths.items()]
        self._router = Router(routes, redirect_slashes=False, default=not_found)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        await self._router(scope, receive, send)


def _endpoint(path: str, operations: Sequence[Operation]) -> Endpoint:
    handlers = {operation.method: operation.handler for operation in operations}
    head = all(operation.is_safe for operation in operations)
    return Endpoint(path, errors=operations[0].shape, head=head, **handlers)

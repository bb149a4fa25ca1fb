"""Conformance tests for front-ends: subclass `ApiFrontendSuite` and provide a front-end.

For a front-end of your own::

    from cupola.testing import ApiFrontendSuite, HttpRequest

    class TestMyApi(ApiFrontendSuite):
        requests = (HttpRequest("GET", "/my/models"),)
        generating = HttpRequest("POST", "/my/chat", b'{"model": "fake", "text": "Hi"}')

        @pytest.fixture
        def frontend(self):
            return MyApi()

The tests send ASGI messages without a server. The front-end gets a `FakeEngine`, whose model is named "fake".
"""

import re
from collections.abc import MutableMapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import anyio
import pytest

from cupola.contracts import ApiFrontend, ASGIApp
from cupola.errors import WorkerDiedError
from cupola.testing.fakes import FakeEngine

_SOON_S = 10.0


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """An HTTP request. `path` may include a query string."""

    method: str
    path: str
    body: bytes = b""
    content_type: str = "application/json"


@dataclass(slots=True)
class HttpResponse:
    """The response to a request; `over` tells whether it is complete."""

    status: int = 0
    headers: tuple[tuple[bytes, bytes], ...] = ()
    body: bytes = b""
    over: bool = False


async def send_request(app: ASGIApp, request: HttpRequest, *, leave: anyio.Event | None = None) -> HttpResponse:
    """Send a request to an application, and check that its messages follow the ASGI specification.

    Args:
        app: The application.
        request: The request.
        leave: Set to disconnect the client; without it the client stays connected.

    Raises:
        AssertionError: The messages are in a wrong order or incomplete.
    """
    response, is_received = HttpResponse(), False

    async def receive() -> MutableMapping[str, Any]:
        nonlocal is_received
        if not is_received:
            is_received = True
            return {"type": "http.request", "body": request.body, "more_body": False}
        await (leave.wait() if leave else anyio.sleep_forever())
        return {"type": "http.disconnect"}

    async def send(message: MutableMapping[str, Any]) -> None:
        assert not response.over, f"{message['type']} came after the end"
        if message["type"] == "http.response.start":
            assert not response.status, "the response started twice"
            response.status, response.headers = message["status"], tuple(message.get("headers", ()))
        else:
            assert message["type"] == "http.response.body"
            assert response.status, "the body came before the response started"
            response.body += message.get("body", b"")
            response.over = not message.get("more_body", False)
        await anyio.lowlevel.checkpoint()

    with anyio.fail_after(_SOON_S):
        await app(_scope(request), receive, send)
    assert response.over or leave, f"{request.method} {request.path} got no complete response"
    return response


@pytest.mark.anyio
class ApiFrontendSuite:
    """Conformance tests for front-ends. Override the fixture `frontend` and list requests.

    Attributes:
        requests: Requests that succeed.
        generating: A request that runs a turn, if there is one.
    """

    requests: ClassVar[tuple[HttpRequest, ...]] = ()
    generating: ClassVar[HttpRequest | None] = None

    @pytest.fixture
    def anyio_backend(self) -> str:
        """Return the event loop to test on."""
        return "asyncio"

    @pytest.fixture
    def frontend(self) -> ApiFrontend:
        """Return the front-end."""
        raise NotImplementedError("override the fixture `frontend`")

    @pytest.fixture
    def engine(self) -> FakeEngine:
        """Return the engine for the front-end."""
        return FakeEngine()

    @pytest.fixture
    def app(self, frontend: ApiFrontend, engine: FakeEngine) -> ASGIApp:
        """Return its application."""
        return frontend.app(engine)

    @property
    def all_requests(self) -> tuple[HttpRequest, ...]:
        """All requests that succeed."""
        return (*self.requests, self.generating) if self.generating else self.requests

    def test_it_has_a_name_and_paths_of_its_own(self, frontend: ApiFrontend) -> None:
        assert re.fullmatch(r"[a-z0-9][a-z0-9_.-]*", frontend.name)
        assert frontend.prefixes
        assert len(set(frontend.prefixes)) == len(frontend.prefixes)
        for prefix in frontend.prefixes:
            assert re.fullmatch(r"(/[^/?#\s]+)+", prefix), "a prefix starts with a slash and does not end with one"

    async def test_what_it_answers_is_under_its_paths_and_succeeds(self, frontend: ApiFrontend, app: ASGIApp) -> None:
        assert self.all_requests, "list requests in `requests` or `generating`"
        for request in self.all_requests:
            path = request.path.partition("?")[0]
            assert any(path == prefix or path.startswith(f"{prefix}/") for prefix in frontend.prefixes)
            response = await send_request(app, request)
            assert 200 <= response.status < 300, response.body

    async def test_what_is_not_there_is_answered_with_404(self, frontend: ApiFrontend, app: ASGIApp) -> None:
        for prefix in frontend.prefixes:
            assert (await send_request(app, HttpRequest("GET", f"{prefix}/there-is-no-such-path"))).status == 404

    async def test_requests_may_come_at_the_same_time(self, app: ASGIApp) -> None:
        async def check(request: HttpRequest) -> None:
            assert 200 <= (await send_request(app, request)).status < 300

        async with anyio.create_task_group() as tasks:
            for request in self.all_requests * 3:
                tasks.start_soon(check, request)

    async def test_a_body_that_is_garbage_is_the_clients_fault(self, app: ASGIApp) -> None:
        for request in self.all_requests:
            if request.body:
                assert 400 <= (await send_request(app, replace(request, body=b"\xff{"))).status < 500

    async def test_an_answer_is_made_by_the_engine_and_ends_its_turn(self, app: ASGIApp, engine: FakeEngine) -> None:
        await send_request(app, self._generating())
        assert len(engine.requests) == 1
        assert engine.running == 0

    async def test_a_failure_of_the_engine_is_an_error_for_this_client_alone(
        self, app: ASGIApp, engine: FakeEngine
    ) -> None:
        engine.refusal = WorkerDiedError(model="fake")
        response = await send_request(app, self._generating())
        assert response.status >= 500
        assert response.body
        engine.refusal = None
        assert (await send_request(app, self._generating())).status == 200

    async def test_a_client_that_leaves_takes_its_turn_along(self, app: ASGIApp, engine: FakeEngine) -> None:
        request, leave = self._generating(), anyio.Event()
        engine.script = ("Hello", anyio.Event())  # never set

        async def leave_when_it_runs() -> None:
            while not engine.running:
                await anyio.lowlevel.checkpoint()
            leave.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(leave_when_it_runs)
            await send_request(app, request, leave=leave)
        assert engine.running == 0

    def _generating(self) -> HttpRequest:
        if self.generating is None:
            pytest.skip("set `generating` to a request that runs a turn")
        return self.generating


def _scope(request: HttpRequest) -> MutableMapping[str, Any]:
    path, _, query = request.path.partition("?")
    headers = [(b"host", b"127.0.0.1"), (b"content-type", request.content_type.encode())]
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "scheme": "http",
        "root_path": "",
        "method": request.method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [*headers, (b"content-length", str(len(request.body)).encode())],
        "client": ("127.0.0.1", 4711),
        "server": ("127.0.0.1", 80),
        "state": {},
    }

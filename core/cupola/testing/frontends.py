"""What every front-end must do, as tests: subclass `ApiFrontendSuite` and give it one.

For a front-end of your own::

    from cupola.testing import ApiFrontendSuite, Ask

    class TestMyApi(ApiFrontendSuite):
        asks = (Ask("GET", "/my/models"),)
        generating = Ask("POST", "/my/chat", b'{"model": "fake", "text": "Hi"}')

        @pytest.fixture
        def frontend(self):
            return MyApi()

It is asked without a server, by the messages of ASGI, and works with a `FakeEngine`, whose model is called "fake".
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
class Ask:
    """A request. `path` may have a query behind a question mark."""

    method: str
    path: str
    body: bytes = b""
    content_type: str = "application/json"


@dataclass(slots=True)
class Told:
    """What came back."""

    status: int = 0
    headers: tuple[tuple[bytes, bytes], ...] = ()
    body: bytes = b""
    over: bool = False


async def told(app: ASGIApp, ask: Ask, *, leave: anyio.Event | None = None) -> Told:
    """Ask an application and check that it keeps to ASGI's order.

    Args:
        app: The application.
        ask: What is asked.
        leave: Set when the client goes away; without one it stays.

    Raises:
        AssertionError: A message came out of its order, or none came.
    """
    answer, given = Told(), False

    async def receive() -> MutableMapping[str, Any]:
        nonlocal given
        if not given:
            given = True
            return {"type": "http.request", "body": ask.body, "more_body": False}
        await (leave.wait() if leave else anyio.sleep_forever())
        return {"type": "http.disconnect"}

    async def send(message: MutableMapping[str, Any]) -> None:
        assert not answer.over, f"{message['type']} came after the end"
        if message["type"] == "http.response.start":
            assert not answer.status, "the response began twice"
            answer.status, answer.headers = message["status"], tuple(message.get("headers", ()))
        else:
            assert message["type"] == "http.response.body"
            assert answer.status, "the body came before the response began"
            answer.body += message.get("body", b"")
            answer.over = not message.get("more_body", False)
        await anyio.lowlevel.checkpoint()

    with anyio.fail_after(_SOON_S):
        await app(_scope(ask), receive, send)
    assert answer.over or leave, f"{ask.method} {ask.path} was not answered to the end"
    return answer


def _scope(ask: Ask) -> MutableMapping[str, Any]:
    path, _, query = ask.path.partition("?")
    headers = [(b"host", b"127.0.0.1"), (b"content-type", ask.content_type.encode())]
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "scheme": "http",
        "root_path": "",
        "method": ask.method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [*headers, (b"content-length", str(len(ask.body)).encode())],
        "client": ("127.0.0.1", 4711),
        "server": ("127.0.0.1", 80),
        "state": {},
    }


@pytest.mark.anyio
class ApiFrontendSuite:
    """Conformance tests for front-ends. Override the fixture `frontend`, and say what it answers.

    Attributes:
        asks: Requests that are answered with success.
        generating: The one that has the engine generate, if there is one.
    """

    asks: ClassVar[tuple[Ask, ...]] = ()
    generating: ClassVar[Ask | None] = None

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
        """Return the engine that it gets."""
        return FakeEngine()

    @pytest.fixture
    def app(self, frontend: ApiFrontend, engine: FakeEngine) -> ASGIApp:
        """Return its application."""
        return frontend.app(engine)

    @property
    def every_ask(self) -> tuple[Ask, ...]:
        """All that is answered with success."""
        return (*self.asks, self.generating) if self.generating else self.asks

    def test_it_has_a_name_and_paths_of_its_own(self, frontend: ApiFrontend) -> None:
        assert re.fullmatch(r"[a-z0-9][a-z0-9_.-]*", frontend.name)
        assert frontend.prefixes
        assert len(set(frontend.prefixes)) == len(frontend.prefixes)
        for prefix in frontend.prefixes:
            assert re.fullmatch(r"(/[^/?#\s]+)+", prefix), "a prefix begins with a slash and ends without one"

    async def test_what_it_answers_is_under_its_paths_and_succeeds(self, frontend: ApiFrontend, app: ASGIApp) -> None:
        assert self.every_ask, "say in `asks` or `generating` what it answers"
        for ask in self.every_ask:
            path = ask.path.partition("?")[0]
            assert any(path == prefix or path.startswith(f"{prefix}/") for prefix in frontend.prefixes)
            answer = await told(app, ask)
            assert 200 <= answer.status < 300, answer.body

    async def test_what_is_not_there_is_answered_with_404(self, frontend: ApiFrontend, app: ASGIApp) -> None:
        for prefix in frontend.prefixes:
            assert (await told(app, Ask("GET", f"{prefix}/there-is-no-such-path"))).status == 404

    async def test_requests_may_come_at_the_same_time(self, app: ASGIApp) -> None:
        async def ask_and_see(ask: Ask) -> None:
            assert 200 <= (await told(app, ask)).status < 300

        async with anyio.create_task_group() as tasks:
            for ask in self.every_ask * 3:
                tasks.start_soon(ask_and_see, ask)

    async def test_a_body_that_is_garbage_is_the_clients_fault(self, app: ASGIApp) -> None:
        for ask in self.every_ask:
            if ask.body:
                assert 400 <= (await told(app, replace(ask, body=b"\xff{"))).status < 500

    async def test_an_answer_is_made_by_the_engine_and_ends_its_turn(self, app: ASGIApp, engine: FakeEngine) -> None:
        await told(app, self._generating())
        assert len(engine.requests) == 1
        assert engine.running == 0

    async def test_a_failure_of_the_engine_is_an_error_for_this_client_alone(
        self, app: ASGIApp, engine: FakeEngine
    ) -> None:
        engine.refusal = WorkerDiedError(model="fake")
        answer = await told(app, self._generating())
        assert answer.status >= 500
        assert answer.body
        engine.refusal = None
        assert (await told(app, self._generating())).status == 200

    async def test_a_client_that_leaves_takes_its_turn_along(self, app: ASGIApp, engine: FakeEngine) -> None:
        asked, leave = self._generating(), anyio.Event()
        engine.script = ("Hello", anyio.Event())  # which nobody sets

        async def leave_when_it_runs() -> None:
            while not engine.running:
                await anyio.lowlevel.checkpoint()
            leave.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(leave_when_it_runs)
            await told(app, asked, leave=leave)
        assert engine.running == 0

    def _generating(self) -> Ask:
        if self.generating is None:
            pytest.skip("say in `generating` what has the engine generate")
        return self.generating

"""The service is asked whatever its own document allows, and whatever it forbids: no 5xx, and every reply conforms.

Front-ends are those that are installed, so that a new one is fuzzed as soon as it has routes.
"""

import zlib

import anyio
import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

from cupola.frontend import Settings
from cupola.plugins import load_plugins
from cupola_server.app import compose
from cupola_server.openai import chat
from cupola_server.openai.responses import params
from server.fake_engine import FakeEngine

EXAMPLES = {GenerationMode.POSITIVE: 40, GenerationMode.NEGATIVE: 20}
MOST_ANSWERS = 4
SAME_AGAIN = "/catalogs/local"
JSON, EVENTS = "application/json", "text/event-stream"
MUST_SUCCEED = {
    "/v1/chat/completions": {JSON, EVENTS},
    "/v1/completions": {JSON, EVENTS},
    "/v1/responses": {JSON, EVENTS},
    "/v1/embeddings": {JSON},
    "/tokenize": {JSON},
}
"""Kinds of replies without which the test would prove nothing about an operation."""
REFUSED = {*chat._REFUSED, *params._REQUEST, "best_of", "suffix"} - {"prompt"}
"""Fields of which most values are refused, though the document allows them: too many such requests prove little."""


async def _described():
    app = compose(load_plugins(Settings()).frontends(), FakeEngine())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        return (await client.get("/openapi.json")).json()


DOCUMENT = anyio.run(_described)
FOUND = [found.ok() for found in schemathesis.openapi.from_dict(DOCUMENT).get_all_operations()]
OPERATIONS = [operation for operation in FOUND if operation.path != "/shutdown"]  # which does what it says


def can_be_wrong(operation):
    return operation.body or operation.query


def examples(operation, mode):
    """Return how many: more where most can go wrong, few for what is there under two paths."""
    if operation.path.removeprefix(SAME_AGAIN) != operation.path:
        return EXAMPLES[mode] // 6
    return EXAMPLES[mode] * (2 if operation.path in MUST_SUCCEED else 1)


CASES = [
    pytest.param(operation, mode, id=f"{operation.label} {mode.value}")
    for operation in OPERATIONS
    for mode in EXAMPLES
    if mode is GenerationMode.POSITIVE or can_be_wrong(operation)
]


def nothing_fails(ctx, response, case):
    """No 5xx, but for "this machine has no such device", which is nobody's failure."""
    assert response.status_code < 500 or response.status_code == 501, response.content


CHECKS = [
    nothing_fails,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    negative_data_rejection,
]


def by_chance(text, of):
    """Whether one in `of` texts is meant; always the same ones."""
    return zlib.crc32(text.encode(errors="replace")) % of == 0


def make_consistent(body, *, streams):
    """Settle what the document cannot say: which fields exclude each other, or need each other."""
    if "messages" in body and "prompt" in body:
        for name in body.keys() - ({"model", "prompt"} if by_chance(str(body), 2) else {"model", "messages"}):
            del body[name]
    for name in body.keys() & REFUSED if not by_chance(str(body), 4) else ():
        del body[name]
    if streams:
        body["stream"] = by_chance(f"stream {body}", 2)
        if not body["stream"]:
            body["stream_options"] = None


def make_likely(case, stored, *, right):
    """Let most names be those of something that is there, and answers be few; whatever was wrong stays wrong."""
    body, model = case.body, "embedder" if "embeddings" in case.path else "tiny"
    if isinstance(body, dict):
        if isinstance(name := body.get("model"), str) and name and not by_chance(name, 10):
            body["model"] = model
        if isinstance(name := body.get("previous_response_id"), str) and not by_chance(name, 3):
            body["previous_response_id"] = stored
        if right:
            make_consistent(body, streams=EVENTS in MUST_SUCCEED.get(case.path, ()))
        for count in ("n", "best_of"):
            if isinstance(value := body.get(count), int) and value > MOST_ANSWERS:
                body[count] = 1 + value % MOST_ANSWERS
    for parameter, known in (("id", model if "models" in case.path else stored), ("name", model)):
        if isinstance(name := case.path_parameters.get(parameter), str) and not by_chance(name, 4):
            case.path_parameters[parameter] = known


@pytest.fixture(scope="module")
def session(service):
    with requests.Session() as session:
        yield session


@pytest.fixture
def stored(service):
    """The id of a stored response."""
    body = {"model": "tiny", "input": "Hello", "max_output_tokens": 2}
    reply = httpx.post(f"{service.url}/v1/responses", json=body, timeout=60)
    assert reply.status_code == 200, reply.text
    return reply.json()["id"]


@pytest.mark.parametrize(("operation", "mode"), CASES)
def test_whatever_is_asked_the_reply_is_one_that_the_document_promises(service, session, stored, operation, mode):
    seen = set()

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(
        max_examples=examples(operation, mode),
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def ask(case):
        make_likely(case, stored, right=mode is GenerationMode.POSITIVE)
        response = case.call(base_url=service.url, session=session, timeout=60)
        if response.status_code == 200:
            seen.add(response.headers["content-type"][0].partition(";")[0])
        case.validate_response(response, checks=CHECKS)

    ask()
    if mode is GenerationMode.POSITIVE and operation.path in MUST_SUCCEED:
        assert MUST_SUCCEED[operation.path] <= seen

"""Every way in which a service elsewhere fails, and what is told."""

import socket

import anyio
import pytest

from core.external.exchanges import ASK, events_of
from cupola.errors import (
    ExternalBusyError,
    ExternalServiceError,
    ExternalTimeoutError,
    InvalidParameterError,
    RequestError,
)
from cupola.events import TurnEnded
from cupola.frontend import GenerateRequest, Usage
from openai_stand_in import KEY, text

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("status", "message", "kind", "sentence"),
    [
        (401, f"Incorrect API key provided: {KEY}", ExternalServiceError, "rejected the key .status 401."),
        (403, "no", ExternalServiceError, "external.cloud.api_key_env"),
        (400, f"no {KEY} here", RequestError, "no .key. here"),
        (422, "bad", RequestError, "'cloud' rejected the request: bad"),
        (404, "model gone", ExternalServiceError, "status 404: model gone"),
        (429, "slow down", ExternalBusyError, "no more requests for now. slow down"),
        (500, "boom " * 1000, ExternalServiceError, "status 500: boom"),
        (302, "", ExternalServiceError, "status 302"),
    ],
)
async def test_refusals_are_told_in_our_words_and_never_with_the_key(opened, service, status, message, kind, sentence):
    service.refuse(status, message)
    async with opened() as engine:
        with pytest.raises(kind, match=sentence) as caught:
            await events_of(engine)
    assert KEY not in str(caught.value)
    assert len(str(caught.value)) < 1000


async def test_the_field_and_the_wait_that_a_service_names_are_handed_on(opened, service):
    async with opened() as engine:
        service.refuse(400, "too hot", "temperature")
        with pytest.raises(InvalidParameterError) as caught:
            await events_of(engine)
        assert caught.value.param == "temperature"
        for said, wait_s in (("17", 17), ("soon", 1), ("-3", 1), ("99999999999", 3600)):
            service.refuse(429, "wait", retry_after=said)
            with pytest.raises(ExternalBusyError) as busy:
                await events_of(engine)
            assert busy.value.retry_after_s == wait_s


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        ([*text("Hel")[:2], "die"], "the connection failed"),
        ([*text("Hel")[:2]], "its stream ended unexpectedly"),
        ([*text("Hel")[:2], "done"], "its stream ended unexpectedly"),
        ([*text("Hel")[:2], {"error": {"message": f"out of {KEY} memory"}}], "out of .key. memory"),
        ([*text("Hel")[:2], {"error": "plain"}], "plain"),
        ([*text("Hel")[:2], b"data: {no json\n\n"], "an invalid chunk"),
        ([*text("Hel")[:2], b'data: {"choices": 4}\n\n'], "an invalid chunk"),
    ],
)
async def test_an_answer_that_breaks_off_is_an_error_after_the_text_that_came(opened, service, script, sentence):
    service.script = script
    async with opened() as engine:
        texts = []

        async def read():
            async with engine.generate(GenerateRequest("big", ASK)) as generation:
                async for event in generation:
                    texts.append(event.text)  # noqa: PERF401 - what came before the error counts

        with pytest.raises(ExternalServiceError, match=sentence) as caught:
            await read()
    assert texts == ["Hel"]
    assert KEY not in str(caught.value)


async def test_comments_blank_lines_and_other_fields_are_skipped(opened, service):
    service.script = [b": keep-alive\n\n", b"event: x\nid: 3\n\n", *text("a"), b"\n\n", "done"]
    async with opened() as engine:
        assert [event.text for event in (await events_of(engine))[:-1]] == ["a"]


async def test_a_service_that_says_nothing_is_given_up_before_and_within_an_answer(opened, service):
    async with opened(timeout_s=0.2) as engine:
        for script in ([service.released], [*text("a")[:2], service.released]):
            service.script = script
            with pytest.raises(ExternalTimeoutError, match="sent nothing for 0.2 s"):
                await events_of(engine)


async def test_a_service_that_is_down_is_told_with_its_name(opened):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        async with opened(base_url=f"http://127.0.0.1:{nobody.getsockname()[1]}/v1") as engine:
            with pytest.raises(ExternalServiceError, match="'cloud' failed: no connection"):
                await events_of(engine)


async def test_a_reply_that_is_no_stream_is_refused(opened, service):
    service.reply = {"choices": []}
    async with opened() as engine:
        with pytest.raises(ExternalServiceError, match="did not stream"):
            await events_of(engine)


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)  # on trio, httpx leaves its generators behind
async def test_leaving_early_ends_the_answer_at_the_service_and_observers_are_told(opened, service):
    events = []
    service.script = [*text("a")[:2], *[b": " + b"x" * 60_000 + b"\n\n"] * 500]
    async with opened() as engine:
        engine._plugins.observe = events.append
        async with engine.generate(GenerateRequest("big", ASK)) as generation:
            async for _ in generation:
                break
        with anyio.fail_after(10):
            await anyio.to_thread.run_sync(service.left.wait, 10)
        service.script = text("a", "b")
        await events_of(engine)
    early, whole = [event for event in events if isinstance(event, TurnEnded)]
    assert (early.model, early.provider, early.reason) == ("cloud/big", "External", "cancelled")
    assert (whole.reason, whole.usage) == ("stop", Usage(7, 2, 2))

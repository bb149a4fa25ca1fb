"""Real worker processes with the echo provider: what happens when they fail, hang, or lose their service."""

import contextlib
import os
import signal
import subprocess
import sys
from array import array
from pathlib import Path

import anyio
import psutil
import pytest

from cupola.errors import (
    ContextLengthExceededError,
    FallbackError,
    InvalidParameterError,
    LoadError,
    QueueFullError,
    RequestError,
    WorkerDiedError,
    WorkerError,
    WorkerHungError,
)
from cupola.frontend import ChatPrompt, Message, TextPrompt, TurnFinished
from cupola.protocol import DetokenizeTokens, EmbedTexts, TokenizeText
from cupola.settings import ModelSettings
from cupola.worker.launch import Interpreter
from cupola.worker.process import open_worker
from echo_specs import chat, echo_spec, text_of
from waiting import until

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    return request.param


@contextlib.asynccontextmanager
async def running(spec):
    """A worker whose events are delivered while the block runs."""
    async with open_worker(spec) as worker, anyio.create_task_group() as group:
        group.start_soon(worker.run)
        yield worker
        await worker.close(WorkerError(detail="the test is over"))


@contextlib.contextmanager
def raises(kind, match=""):
    """Like pytest.raises, through the groups that task groups make."""
    with pytest.raises((kind, BaseExceptionGroup)) as caught:
        yield caught
    for error in leaves(caught.value):
        assert isinstance(error, kind)
        assert match in str(error)


def leaves(error):
    if not isinstance(error, BaseExceptionGroup):
        return [error]
    return [leaf for one in error.exceptions for leaf in leaves(one)]


async def test_a_worker_does_not_get_the_keys_of_the_service(tmp_path, monkeypatch):
    monkeypatch.setenv("CLOUD_KEY", "secret")
    monkeypatch.setenv("OTHER", "plain")
    async with running(echo_spec(tmp_path, without=frozenset({"CLOUD_KEY"}))) as worker:
        variables = psutil.Process(worker.pid).environ()
    assert "CLOUD_KEY" not in variables
    assert variables["OTHER"] == "plain"


async def test_a_turn_comes_back_as_text_and_usage(tmp_path):
    async with running(echo_spec(tmp_path)) as worker:
        assert worker.report.provider == "EchoExecutionProvider"
        assert worker.report.resident_bytes > 0
        turn = await worker.submit(chat("héllo 🌍"))
        assert turn.prompt_tokens == 7
        text, finished = await text_of(turn)
    assert text == "héllo 🌍"
    assert finished.reason == "stop"
    assert (finished.usage.prompt_tokens, finished.usage.completion_tokens, finished.usage.cached_tokens) == (7, 7, 1)


async def test_max_tokens_and_stop_strings_end_an_answer(tmp_path):
    async with running(echo_spec(tmp_path)) as worker:
        assert (await text_of(await worker.submit(chat("abcdef", max_tokens=2))))[0] == "ab"
        text, finished = await text_of(await worker.submit(chat("one. two", stop=(". ",))))
    assert (text, finished.reason) == ("one", "stop")


async def test_turns_share_steps_up_to_the_capacity_and_wait_beyond_it(tmp_path):
    async with running(echo_spec(tmp_path, capacity=2)) as worker:
        turns = [await worker.submit(chat(f"turn {number}")) for number in range(5)]
        assert [(await text_of(turn))[0] for turn in turns] == [f"turn {number}" for number in range(5)]


async def test_a_prompt_beyond_the_context_is_refused_with_the_three_numbers(tmp_path):
    async with running(echo_spec(tmp_path)) as worker:
        with pytest.raises(ContextLengthExceededError) as caught:
            await worker.submit(chat("x" * 4000, max_tokens=100))
        assert (caught.value.context_length, caught.value.prompt_tokens, caught.value.completion_tokens) == (
            4096, 4000, 100,
        )  # fmt: skip
        with pytest.raises(ContextLengthExceededError):
            await worker.submit(chat("x" * 4096))
        assert (await text_of(await worker.submit(chat("still here"))))[0] == "still here"


async def test_a_prompt_that_the_template_refuses_is_a_request_error(tmp_path):
    async with running(echo_spec(tmp_path)) as worker:
        with pytest.raises(RequestError, match="template"):
            await worker.submit(chat())


async def test_the_queue_is_bounded(tmp_path):
    async with running(echo_spec(tmp_path, queue_limit=1)) as worker:
        first = await worker.submit(chat("forever slow"))
        second = await worker.submit(chat("waits"))
        with pytest.raises(QueueFullError) as caught:
            await worker.submit(chat("too many"))
        assert caught.value.retry_after_s > 0
        await worker.cancel(first.id)
        assert (await text_of(second))[0] == "waits"


async def test_a_cancelled_turn_ends_and_the_next_one_runs(tmp_path):
    async with running(echo_spec(tmp_path)) as worker:
        turn = await worker.submit(chat("forever slow"))
        await turn.mailbox.get()
        await worker.cancel(turn.id)
        await worker.cancel(turn.id)
        assert (await text_of(await worker.submit(chat("next"))))[0] == "next"


async def test_a_step_that_raises_fails_its_turns_and_nothing_else(tmp_path):
    async with running(echo_spec(tmp_path)) as worker:
        with pytest.raises(WorkerError, match="it was told to"):
            await text_of(await worker.submit(chat("please raise")))
        assert (await text_of(await worker.submit(chat("next"))))[0] == "next"


async def test_a_worker_killed_in_mid_answer_ends_its_turns_with_a_clear_error(tmp_path):
    with raises(WorkerDiedError, "SIGKILL"):
        async with running(echo_spec(tmp_path)) as worker:
            turn = await worker.submit(chat("forever slow"))
            await turn.mailbox.get()
            os.kill(worker.pid, signal.SIGKILL)
            with pytest.raises(WorkerDiedError, match="next request starts a new worker"):
                await text_of(turn)
            with pytest.raises(WorkerDiedError):
                await worker.submit(chat("too late"))


async def test_a_worker_that_hangs_is_ended_at_the_limit(tmp_path):
    with raises(WorkerHungError, "no progress for 0.5 s"):
        async with running(echo_spec(tmp_path, step_timeout_s=0.5)) as worker:
            with pytest.raises(WorkerHungError):
                await text_of(await worker.submit(chat("please hang")))
    assert not psutil.pid_exists(worker.pid)


@pytest.mark.parametrize(
    ("folder", "said"),
    [
        ("load-fails", "told to fail"),
        ("load-dies", "exit code 3; its error output: goodbye"),
        ("load-hangs", "within 3 s"),
    ],
)
async def test_loading_that_fails_says_why_and_leaves_no_process(tmp_path, folder, said):
    children = set(psutil.Process().children())
    with pytest.raises(LoadError, match=said):
        async with open_worker(echo_spec(tmp_path / folder, load_timeout_s=3 if folder == "load-hangs" else 60)):
            pass
    assert set(psutil.Process().children()) == children


async def test_an_interpreter_that_is_not_there_is_a_clear_error(tmp_path):
    with pytest.raises(WorkerError, match="no-such-python"):
        async with open_worker(echo_spec(tmp_path, interpreter=Interpreter("/no-such-python"))):
            pass


async def test_a_worker_leaves_neither_process_nor_folder_behind(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    async with running(echo_spec(tmp_path)) as worker:
        assert list(tmp_path.glob("cupola-worker-*"))
    assert not psutil.pid_exists(worker.pid)
    assert not list(tmp_path.glob("cupola-worker-*"))


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the worker notices between two steps")
@pytest.mark.parametrize("prompt", ["", "forever slow", "please hang"])
async def test_a_worker_does_not_outlive_a_service_that_was_killed(tmp_path, prompt):
    service = await anyio.open_process(
        [sys.executable, Path(__file__).parent / "doomed_service.py", tmp_path, prompt], stderr=None
    )
    async with service:
        pid = int(await service.stdout.receive())
        assert psutil.pid_exists(pid)
        service.kill()
    await until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)


def test_the_alarm_ends_a_step_that_hangs_without_a_service():
    code = "from cupola.worker.child import _alarm\nwith _alarm(0.2):\n while True: pass"
    assert subprocess.run([sys.executable, "-c", code], timeout=10, check=False).returncode == -signal.SIGALRM


async def test_events_that_nobody_reads_are_merged(tmp_path):
    async with running(echo_spec(tmp_path)) as worker:
        turn = await worker.submit(chat("a long answer that is read late"))
        other = await worker.submit(chat("x"))
        await text_of(other)
        event = await turn.mailbox.get()
        assert event.text == "a long answer that is read late"
        assert isinstance(await turn.mailbox.get(), TurnFinished)


async def test_questions_are_answered_while_turns_run(tmp_path):
    async with running(echo_spec(tmp_path)) as worker:
        turn = await worker.submit(chat("forever slow"))
        assert (await worker.ask(TokenizeText(TextPrompt("ab")))).tokens == (97, 98)
        assert (await worker.ask(TokenizeText(ChatPrompt((Message("user", "c"),))))).tokens == (99,)
        assert (await worker.ask(DetokenizeTokens((97, 98)))).text == "ab"
        with pytest.raises(RequestError, match="template"):
            await worker.ask(TokenizeText(ChatPrompt(())))
        with pytest.raises(InvalidParameterError, match="not an embedding model"):
            await worker.ask(EmbedTexts(("x",)))
        assert await turn.mailbox.get()


async def test_an_embedding_model_makes_vectors_of_length_one_and_answers_no_prompts(tmp_path):
    async with running(echo_spec(tmp_path / "embeds")) as worker:
        assert worker.report.kind == "embedding"
        answer = await worker.ask(EmbedTexts(("abc", (5, 6)), dimensions=2))
        vectors = [array("f", vector) for vector in answer.vectors]
        assert answer.prompt_tokens == 5
        assert [len(vector) for vector in vectors] == [2, 2]
        assert all(abs(sum(value * value for value in vector) - 1) < 1e-6 for vector in vectors)
        for wrong, param in [(EmbedTexts(("",)), "input[0]"), (EmbedTexts(("x" * 17,)), "input[0]"),
                             (EmbedTexts(("x",), 5), "dimensions")]:  # fmt: skip
            with pytest.raises(InvalidParameterError) as caught:
                await worker.ask(wrong)
            assert caught.value.param == param
        with pytest.raises(InvalidParameterError, match="cannot generate text"):
            await worker.submit(chat("hello"))


async def test_a_question_to_a_worker_that_is_killed_ends_with_a_clear_error(tmp_path):
    with raises(WorkerDiedError):
        async with running(echo_spec(tmp_path)) as worker, anyio.create_task_group() as group:
            await worker.submit(chat("please hang"))
            group.start_soon(worker.ask, TokenizeText(TextPrompt("x")))
            await anyio.wait_all_tasks_blocked()
            os.kill(worker.pid, signal.SIGKILL)


PARTLY = {"EchoExecutionProvider": 3, "CPUExecutionProvider": 9}


async def test_a_model_of_which_the_provider_takes_too_little_is_refused_with_the_numbers(tmp_path):
    with raises(FallbackError, "can run 3 of the 12 nodes of its graph (25%), and at least 80% are required"):
        async with running(echo_spec(tmp_path, nodes=PARTLY)):
            pass


async def test_the_least_share_can_be_set_and_what_reaches_it_is_no_fallback(tmp_path):
    async with running(echo_spec(tmp_path, nodes=PARTLY, models=ModelSettings(min_provider_share=0.25))) as worker:
        assert (worker.report.nodes, worker.report.fallback) == (PARTLY, False)


async def test_a_fallback_that_is_allowed_is_reported(tmp_path):
    async with running(echo_spec(tmp_path, nodes=PARTLY, models=ModelSettings(allow_fallback=True))) as worker:
        assert (worker.report.nodes, worker.report.fallback) == (PARTLY, True)


async def test_where_nobody_knows_the_nodes_nothing_is_claimed(tmp_path):
    async with running(echo_spec(tmp_path)) as worker:
        assert (worker.report.nodes, worker.report.fallback) == ({}, False)

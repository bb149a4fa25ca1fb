"""Loading on demand, idle unloading and explicit unloading, with real workers of the echo provider."""

import os
import signal
from contextlib import asynccontextmanager
from functools import partial

import anyio
import msgspec
import psutil
import pytest

from cupola.errors import LoadError, MemoryBudgetError, ModelBusyError, WorkerDiedError, WorkerError
from cupola.events import ModelLoaded, ModelUnloaded
from cupola.frontend import ModelInfo
from cupola.residency import Residency, ResidencyLimits
from echo_specs import chat, echo_spec, text_of
from waiting import until

pytestmark = pytest.mark.anyio
INFO = ModelInfo(id="Echo-generic-cpu:1", alias="echo", source="test", publisher="me", provider="EchoExecutionProvider")


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    return request.param


@asynccontextmanager
async def residency(**settings):
    events = []
    limits = {"default_ttl_s": 600, "restart_limit": 3, "memory_budget_bytes": 10**12}
    async with Residency(ResidencyLimits(**(limits | settings)), events.append) as models:
        models.events = events
        yield models


async def ask(residency, spec, text="hello", ttl_s=None, info=INFO):
    async with residency.use(info, spec, ttl_s) as worker:
        return (await text_of(await worker.submit(chat(text))))[0]


async def hold(residency, spec, *, task_status):
    """Keep a turn running until cancelled."""
    async with residency.use(INFO, spec, None) as worker:
        turn = await worker.submit(chat("forever slow"))
        await turn.mailbox.get()
        task_status.started(worker)
        await text_of(turn)


async def test_requests_for_a_model_being_loaded_wait_on_that_one_load(tmp_path):
    async with residency() as models:
        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(ask, models, echo_spec(tmp_path))
        assert [type(event) for event in models.events] == [ModelLoaded]
        assert len(models.statuses()) == 1


async def test_a_load_goes_on_when_the_one_who_asked_first_leaves(tmp_path):
    async with residency() as models, anyio.create_task_group() as group:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await ask(models, echo_spec(tmp_path))
        group.start_soon(ask, models, echo_spec(tmp_path))


async def test_an_idle_model_is_unloaded_after_its_time_and_not_before(tmp_path):
    async with residency(default_ttl_s=0.3) as models:
        await ask(models, echo_spec(tmp_path))
        (status,) = models.statuses()
        assert 0 < status.expires_in_s <= 0.3
        await until(lambda: models.events[-1] == ModelUnloaded(INFO.id, "idle", "EchoExecutionProvider"))
        assert models.statuses() == []
        assert not psutil.pid_exists(status.pid)
        assert await ask(models, echo_spec(tmp_path)) == "hello"


async def test_the_time_can_be_set_with_a_request_and_zero_means_for_good(tmp_path):
    async with residency(default_ttl_s=0.01) as models:
        await ask(models, echo_spec(tmp_path), ttl_s=0)
        (status,) = models.statuses()
        assert (status.ttl_s, status.expires_in_s) == (None, None)
        status = await models.load(INFO, echo_spec(tmp_path), 50)
        assert status.ttl_s == 50


async def test_a_running_turn_keeps_its_model(tmp_path):
    async with residency(default_ttl_s=0.01) as models, anyio.create_task_group() as group:
        await group.start(hold, models, echo_spec(tmp_path))
        (status,) = models.statuses()
        assert (status.turns, status.expires_in_s) == (1, None)
        with pytest.raises(ModelBusyError, match="processing 1 request"):
            await models.unload(INFO.id, wait_s=0.1)
        assert models.statuses()[0].pid == status.pid
        group.cancel_scope.cancel()


async def test_unloading_waits_for_running_turns_and_new_ones_wait_for_it(tmp_path):
    async with residency() as models, anyio.create_task_group() as group:
        async with models.use(INFO, echo_spec(tmp_path), None) as worker:
            turn = await worker.submit(chat("short slow"))
            group.start_soon(models.unload, INFO.id)
            await anyio.wait_all_tasks_blocked()
            group.start_soon(ask, models, echo_spec(tmp_path))
            assert (await text_of(turn))[0] == "short slow"
            assert models.statuses()[0].pid == worker.pid
    kinds = [type(event) for event in models.events]
    assert kinds == [ModelLoaded, ModelUnloaded, ModelLoaded, ModelUnloaded]


async def test_forced_unloading_ends_turns_with_an_error(tmp_path):
    async with residency() as models:
        async with models.use(INFO, echo_spec(tmp_path), None) as worker:
            turn = await worker.submit(chat("forever slow"))
            assert await models.unload(INFO.id, force=True)
            with pytest.raises(WorkerError, match="unloaded"):
                await text_of(turn)
        assert not await models.unload(INFO.id)


async def test_an_unload_that_is_given_up_leaves_the_model_in_use(tmp_path):
    async with residency() as models, models.use(INFO, echo_spec(tmp_path), None):
        with anyio.move_on_after(0.05):
            await models.unload(INFO.id)
        assert await ask(models, echo_spec(tmp_path)) == "hello"


async def test_an_error_of_the_caller_leaves_as_it_is():
    with pytest.raises(KeyError, match="mine"):
        async with residency():
            raise KeyError("mine")


async def test_after_a_crash_the_next_request_starts_a_new_worker(tmp_path):
    async with residency() as models:
        async with models.use(INFO, echo_spec(tmp_path), None) as worker:
            turn = await worker.submit(chat("forever slow"))
            await turn.mailbox.get()
            os.kill(worker.pid, signal.SIGKILL)
            with pytest.raises(WorkerDiedError):
                await text_of(turn)
        assert await ask(models, echo_spec(tmp_path)) == "hello"
        assert models.statuses()[0].pid != worker.pid


async def test_a_model_that_keeps_failing_is_not_started_again_at_once(tmp_path):
    async with residency(restart_limit=2) as models:
        for _ in range(2):
            with pytest.raises(LoadError, match="told to fail"):
                await ask(models, echo_spec(tmp_path / "load-fails"))
        with pytest.raises(WorkerError, match="failed 2 times"):
            await ask(models, echo_spec(tmp_path / "load-fails"))


async def test_leaving_ends_every_worker_even_in_mid_answer(tmp_path):
    with pytest.raises(BaseExceptionGroup) as caught:
        async with anyio.create_task_group() as group, residency() as models:
            worker = await group.start(hold, models, echo_spec(tmp_path))
    assert caught.group_contains(WorkerError)
    assert not psutil.pid_exists(worker.pid)
    assert models.events[-1] == ModelUnloaded(INFO.id, "stopping", "EchoExecutionProvider")


async def test_a_resident_is_found_by_every_name_it_has(tmp_path):
    async with residency() as models:
        await ask(models, echo_spec(tmp_path))
        for name in ("echo-generic-cpu:1", "ECHO-generic-cpu", "Echo"):
            assert models.find(name)[0] is INFO
        assert models.find("other") is None


TWO_FIT = 145_000_000
"""A worker of the echo provider takes 23 to 45 MB; before it was measured, 100 MB are expected."""


def numbered(number):
    return msgspec.structs.replace(INFO, id=f"echo{number}:1", alias=f"echo{number}")


async def test_the_least_recently_used_idle_model_makes_room(tmp_path):
    async with residency(memory_budget_bytes=TWO_FIT) as models:
        for number in (1, 2, 1, 3):
            await ask(models, echo_spec(tmp_path), info=numbered(number))
        assert [status.info.alias for status in models.statuses()] == ["echo3", "echo1"]
        assert ModelUnloaded("echo2:1", "evicted", "EchoExecutionProvider") in models.events


async def test_a_pinned_model_stays(tmp_path):
    async with residency(memory_budget_bytes=TWO_FIT, pinned=frozenset({"echo1"})) as models:
        for number in (1, 2, 3):
            await ask(models, echo_spec(tmp_path), info=numbered(number))
        assert [status.info.alias for status in models.statuses()] == ["echo3", "echo1"]


async def test_a_model_with_running_turns_is_not_unloaded_and_the_next_one_waits_for_it(tmp_path):
    async with residency(memory_budget_bytes=TWO_FIT) as models, anyio.create_task_group() as group:
        async with models.use(numbered(1), echo_spec(tmp_path), None) as first:
            async with models.use(numbered(2), echo_spec(tmp_path), None) as second:
                group.start_soon(partial(ask, models, echo_spec(tmp_path), info=numbered(3)))
                await anyio.wait_all_tasks_blocked()
                assert {status.pid for status in models.statuses()} == {first.pid, second.pid}
    assert ModelUnloaded("echo2:1", "evicted", "EchoExecutionProvider") in models.events


async def test_a_wait_for_room_that_takes_too_long_is_a_clear_error(tmp_path):
    async with residency(memory_budget_bytes=TWO_FIT) as models:
        async with models.use(numbered(1), echo_spec(tmp_path), None):
            async with models.use(numbered(2), echo_spec(tmp_path), None):
                with pytest.raises(MemoryBudgetError, match="145 MB is used by echo1:1, echo2:1"):
                    await ask(models, echo_spec(tmp_path, load_timeout_s=0.1), info=numbered(3))


async def test_a_model_larger_than_the_budget_is_tried_when_it_has_the_memory_to_itself(tmp_path):
    async with residency(memory_budget_bytes=1) as models:
        assert await ask(models, echo_spec(tmp_path)) == "hello"
        assert await ask(models, echo_spec(tmp_path), info=numbered(2)) == "hello"
        assert len(models.statuses()) == 1

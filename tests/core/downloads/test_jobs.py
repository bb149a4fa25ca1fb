"""Downloads as jobs: joining, watching, cancelling and detaching them."""

from functools import partial
from pathlib import Path

import anyio
import pytest

from cupola.downloads import DownloadJobs
from cupola.errors import DownloadError
from cupola.frontend import CachedModel, ModelInfo, ProgressEvent

pytestmark = pytest.mark.anyio

MODEL = ModelInfo(id="tiny-generic-cpu:1", alias="tiny", source="test", publisher="Publisher")
CACHED = CachedModel(MODEL, Path("tiny"), 10)


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    return request.param


class Work:
    """A download that reports progress once, then waits for `go_on`."""

    def __init__(self, error=None):
        self.error = error
        self.runs = self.cancelled = 0
        self.begun, self.go_on = anyio.Event(), anyio.Event()

    async def __call__(self, progress):
        self.runs += 1
        progress(ProgressEvent("download", 4, 10))
        self.begun.set()
        try:
            await self.go_on.wait()
        except anyio.get_cancelled_exc_class():
            self.cancelled += 1
            raise
        if self.error:
            raise self.error
        progress(ProgressEvent("download", 10, 10))
        return CACHED


def ignore(event):
    pass


async def test_a_running_download_is_joined_and_reports_its_progress_at_once():
    work, events, results = Work(), [], []

    async def ask(progress):
        results.append(await jobs.join(MODEL, work, progress))

    async with DownloadJobs() as jobs, anyio.create_task_group() as tasks:
        tasks.start_soon(ask, ignore)
        await work.begun.wait()
        tasks.start_soon(ask, events.append)
        await anyio.wait_all_tasks_blocked()
        (status,) = jobs.statuses()
        assert (status.state, status.progress.done, status.waiting, status.detached) == ("running", 4, 2, False)
        work.go_on.set()
    assert results == [CACHED, CACHED]
    assert work.runs == 1
    assert [event.done for event in events] == [4, 10]
    assert [status.state for status in jobs.statuses()] == ["done"]


async def test_a_download_is_cancelled_when_the_last_waiting_task_is():
    work, scopes = Work(), [anyio.CancelScope() for _ in range(2)]

    async def ask(scope):
        with scope:
            await jobs.join(MODEL, work, ignore)

    async with DownloadJobs() as jobs:
        async with anyio.create_task_group() as tasks:
            for scope in scopes:
                tasks.start_soon(ask, scope)
            await work.begun.wait()
            scopes[0].cancel()
            await anyio.wait_all_tasks_blocked()
            assert not work.cancelled
            scopes[1].cancel()
        assert work.cancelled == 1
        assert [status.state for status in jobs.statuses()] == ["cancelled"]


async def test_a_detached_download_continues_without_waiting_tasks():
    work = Work()
    async with DownloadJobs() as jobs:
        assert (await jobs.start(MODEL, work)).state == "running"
        await work.begun.wait()
        with anyio.move_on_after(0.01):
            await jobs.join(MODEL, work, ignore)
        assert jobs.statuses()[0].state == "running"
        work.go_on.set()
        assert await jobs.join(MODEL, work, ignore) == CACHED
    assert (work.runs, work.cancelled) == (1, 0)


async def test_cancelling_raises_in_every_waiting_task_and_the_next_download_starts_again():
    work = Work()
    async with DownloadJobs() as jobs, anyio.create_task_group() as tasks:

        async def ask():
            with pytest.raises(DownloadError, match="cancelled"):
                await jobs.join(MODEL, work, ignore)

        tasks.start_soon(ask)
        await work.begun.wait()
        assert jobs.cancel(MODEL.id)
        work.go_on.set()
        assert await jobs.join(MODEL, work, ignore) == CACHED
        assert work.runs == 2
        assert not jobs.cancel(MODEL.id)


@pytest.mark.parametrize("error", [DownloadError(model="x", detail="no luck"), ZeroDivisionError("a fault")])
async def test_an_error_is_raised_in_every_waiting_task_and_kept_in_the_list(error):
    work, raised = Work(error), []

    async def ask():
        try:
            await jobs.join(MODEL, work, ignore)
        except (DownloadError, ZeroDivisionError) as caught:
            raised.append(caught)

    async with DownloadJobs() as jobs, anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(ask)
        await work.begun.wait()
        work.go_on.set()
    assert raised == [error] * 3
    (status,) = jobs.statuses()
    assert (status.state, status.error) == ("failed", str(error))


async def test_leaving_the_context_cancels_the_downloads():
    work = Work()
    async with DownloadJobs() as jobs:
        await jobs.start(MODEL, work)
        await work.begun.wait()
    assert work.cancelled == 1


async def test_the_rate_and_the_remaining_time_follow_from_the_last_seconds(monkeypatch):
    now = iter(range(100, 200))
    monkeypatch.setattr("cupola.downloads.jobs.time.monotonic", partial(next, now))

    async def work(progress):
        for done in range(0, 800, 100):
            progress(ProgressEvent("download", done, 1000))
        status.append(jobs.statuses()[0])
        return CACHED

    status = []
    async with DownloadJobs() as jobs:
        await jobs.join(MODEL, work, ignore)
    assert (status[0].per_s, status[0].remaining_s) == (100.0, 3.0)

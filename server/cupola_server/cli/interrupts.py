"""Ctrl+C that stops one piece of work and not the program."""

import signal
import sys
from collections.abc import Awaitable, Callable

import anyio

from cupola_server.cli.failures import cause


async def run_interruptible(work: Callable[[], Awaitable[None]]) -> bool:
    """Run work that SIGINT cancels.

    Returns:
        Whether it was interrupted.

    Raises:
        BaseException: What the work raised, out of the task group's wrapping.
    """
    before = signal.getsignal(signal.SIGINT)
    interrupted = False
    try:
        async with anyio.create_task_group() as group:

            async def watch(*, task_status: anyio.abc.TaskStatus[None]) -> None:
                nonlocal interrupted
                with anyio.open_signal_receiver(signal.SIGINT) as signals:
                    task_status.started()
                    async for _ in signals:
                        interrupted = True
                        group.cancel_scope.cancel()

            if sys.platform != "win32":  # where asyncio cannot receive signals, Ctrl+C ends the program
                await group.start(watch)
            await work()
            group.cancel_scope.cancel()
    except BaseExceptionGroup as raised:
        raise cause(raised) from raised
    finally:
        # Closing the receiver leaves Python's default handler, in place of the one that asyncio.run installed.
        signal.signal(signal.SIGINT, before)
    return interrupted

"""Kills downloads: `dying_downloads.py CACHE URL SIZE SHA256 TIMES`, each with SIGKILL at a random moment of its own.

Every download runs in a fork of this process, so that a hundred of them take no longer than their bytes do. After each
death it is looked whether the cache shows a model. Prints, as JSON, for every try its exit status and what was shown.
"""

import json
import os
import random
import select
import signal
import sys
import time
from pathlib import Path

import anyio
import httpx  # noqa: F401 - imported once, before the forks
from downloading_process import MODEL, Served

from cupola.downloads import HttpDownloader, acquire
from cupola.settings import DownloadSettings
from cupola_plugins.filesystem import FilesystemCache

SETTINGS = DownloadSettings(workers=4, chunk_mb=0.1, retries=0)


def forked(run):
    child = os.fork()
    if child == 0:
        try:
            run()
            os._exit(0)
        finally:
            os._exit(1)
    return child


def ended(child, within_s):
    """Wait for a child, and kill it when its time is over; returns whether it was killed."""
    descriptor = os.pidfd_open(child)
    died, _, _ = select.select([descriptor], [], [], within_s)
    os.close(descriptor)
    if not died:
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def main(cache, url, size_bytes, sha256, times):
    source, rng, tries = Served(url, int(size_bytes), sha256), random.Random(7), []

    async def download():
        await acquire(MODEL, source, FilesystemCache(Path(cache)), HttpDownloader(SETTINGS), lambda event: None)

    async def shown():
        return [model.info.id for model in await FilesystemCache(Path(cache)).list()]

    def visible():
        reader, writer = os.pipe()
        os.waitpid(forked(lambda: os.write(writer, json.dumps(anyio.run(shown)).encode())), 0)
        os.close(writer)
        with os.fdopen(reader) as answer:
            return json.loads(answer.read())

    def remove():
        os.waitpid(forked(lambda: anyio.run(FilesystemCache(Path(cache)).remove, MODEL.id)), 0)

    started = time.monotonic()
    assert not ended(forked(lambda: anyio.run(download)), 60)
    whole_s = time.monotonic() - started
    remove()
    while sum(killed for killed, _ in tries) < int(times):
        killed = ended(forked(lambda: anyio.run(download)), rng.uniform(0, whole_s))
        tries.append((killed, visible()))
        if tries[-1][1]:
            remove()
    ended(forked(lambda: anyio.run(download)), 60)
    print(json.dumps(tries))


if __name__ == "__main__":
    main(*sys.argv[1:])

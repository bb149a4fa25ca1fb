"""What another user can do with a cache: `another_user.py UID CACHE FOLDER SCENARIO`. Prints it as JSON.

The user is taken on when everything is imported, because that user may not be able to read where Python lies.
"""

import json
import os
import sys
from pathlib import Path

import anyio

from cupola.errors import CacheError
from cupola.testing.caches import MODEL, commit_model, write_files
from cupola_plugins.filesystem import FilesystemCache


def ignore(event):
    pass


async def read(cache, folder):
    """Use a cache that cannot be written."""
    store = FilesystemCache(cache)
    (listed,) = await store.list()
    (verified,) = await store.verify(None, ignore)
    await store.export(MODEL.id, folder / "tiny.tar", ignore)
    refusals = []
    for use in (lambda: store.reserve(MODEL), lambda: store.remove(MODEL.id)):
        try:
            await use()
        except CacheError as error:
            refusals.append(str(error))
    return {
        "listed": listed.info.id,
        "found": (await store.find(MODEL.id)) == listed,
        "faults": verified.faults,
        "exported_bytes": (folder / "tiny.tar").stat().st_size,
        "refusals": refusals,
    }


async def go_on(cache, folder):
    """Take over what another user's download left, and replace a model of theirs."""
    store = FilesystemCache(cache)
    async with await store.reserve(MODEL) as staging:
        left = sorted(path.name for path in staging.path.iterdir())
        write_files(staging.path)
        await staging.commit()
    return {"left": left, "listed": [model.info.id for model in await store.list()]}


async def warm_up(folder):
    """Import whatever is imported late."""
    await commit_model(FilesystemCache(folder / "warm"))
    await FilesystemCache(folder / "warm").export(MODEL.id, folder / "warm.tar", ignore)
    await FilesystemCache(folder / "warm").verify(None, ignore)


def main(uid, cache, folder, scenario):
    anyio.run(warm_up, Path(folder))
    if int(uid) != os.getuid():
        os.setgroups([])
        os.setgid(int(uid))
        os.setuid(int(uid))
    os.umask(0o022)
    print(json.dumps(anyio.run({"read": read, "go_on": go_on}[scenario], Path(cache), Path(folder))))


if __name__ == "__main__":
    main(*sys.argv[1:])

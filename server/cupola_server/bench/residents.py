"""Many loaded models: copies of one, under names of their own, in a cache that is removed afterwards."""

import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path

from msgspec import structs

from cupola.contracts import CachedModel, CacheStore, ModelInfo
from cupola.engine import Engine
from cupola_server.bench.answers import Answer, Prompt
from cupola_server.bench.host import Host
from cupola_server.bench.targets import EngineTarget


class Residents:
    """Copies of a model, loaded as far as one asks for."""

    def __init__(self, engine: Engine, copies: list[str]) -> None:
        self._engine, self._copies = engine, copies
        self._first = EngineTarget("first", "first", copies[0], lambda: nullcontext(engine))
        self._first.engine = engine

    async def keep(self, count: int) -> None:
        """Have so many loaded, and no more."""
        for model in self._copies[count:]:
            await self._engine.unload(model)
        for model in self._copies[:count]:
            await self._engine.load(model, ttl_s=0)

    async def ask(self, prompt: Prompt, new_tokens: int) -> Answer:
        """Ask the first one."""
        return await self._first.ask(prompt, new_tokens)

    def memory_bytes(self) -> int:
        """Return what the workers of all of them take now."""
        return sum(status.memory_bytes for status in self._engine.residents())


@asynccontextmanager
async def residents_of(host: Host, model: CachedModel, count: int) -> AsyncIterator[Residents]:
    """Make copies of a model, linked where the file system can, and open an engine over them."""
    with tempfile.TemporaryDirectory(prefix="cupola-bench-", dir=_beside(model.path)) as folder:
        async with host.open_engine(f"cache.dir={folder}", "models.memory_budget_mb=1000000") as engine:
            copies = [_named(model.info, number) for number in range(count)]
            for info in copies:
                await _copy(engine.cache, model, info)
            yield Residents(engine, [info.id for info in copies])


async def _copy(cache: CacheStore, model: CachedModel, info: ModelInfo) -> None:
    async with await cache.reserve(info) as staging:
        for path in model.path.iterdir():
            if path.is_file() and not path.name.startswith("cupola."):
                _link(path, staging.path / path.name)
        await staging.commit()


def _named(info: ModelInfo, number: int) -> ModelInfo:
    return structs.replace(info, id=f"benchmark-copy-{number}:1", alias=f"benchmark-copy-{number}", parent=info.id)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _beside(path: Path) -> Path | None:
    """Return a folder of the same file system to write into, if that may be done."""
    return path.parent if os.access(path.parent, os.W_OK) else None

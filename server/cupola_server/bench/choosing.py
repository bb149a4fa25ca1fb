"""Decides which models a run measures, and has them in the cache."""

from collections.abc import Callable, Sequence

from cupola.contracts import CachedModel, ModelInfo, ProgressEvent
from cupola.engine import Engine
from cupola.errors import CupolaError, NoProviderError
from cupola_server.bench.adapters import ALL
from cupola_server.bench.results import Skipped


async def chosen(
    engine: Engine, names: Sequence[str], providers: Sequence[str], progress: Callable[[ProgressEvent], None]
) -> tuple[list[CachedModel], list[Skipped]]:
    """Return the models that names and providers mean, downloaded if need be, and what cannot be had.

    Without providers it is the variant of each model that placement chooses. With them it is the first variant made
    for each: a variant made for one provider runs on no other.

    Raises:
        CupolaError: A model is unknown, or none can be had.
    """
    models: list[CachedModel] = []
    skipped: list[Skipped] = []
    for name in names:
        for info in await _variants(engine, name, providers):
            try:
                models.append(await engine.download(info.id, progress))
            except CupolaError as error:
                if not providers:
                    raise
                skipped.append(Skipped(f"{info.provider} with {info.id}", str(error)))
    if not models:
        reasons = "; ".join(one.reason for one in skipped) or "no variant is made for them"
        raise NoProviderError(model=", ".join(names), needs=", ".join(providers), available=reasons)
    return list({model.info.id: model for model in models}.values()), skipped


async def _variants(engine: Engine, name: str, providers: Sequence[str]) -> list[ModelInfo]:
    best = (await engine.resolve(name)).info
    if not providers:
        return [best]
    found: dict[str, ModelInfo] = {}
    for status in await engine.models():
        info = status.info
        if info.alias == best.alias and _is_wanted(info.provider, providers):
            found.setdefault(info.provider, info)
    return [*found.values()]


def _is_wanted(provider: str, providers: Sequence[str]) -> bool:
    short = provider.removesuffix("ExecutionProvider").lower()
    return any(wanted.lower() in (ALL, short, provider.lower()) for wanted in providers)

"""Decides which models a run measures, and where, and has them in the cache."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cupola.contracts import CachedModel, ProgressEvent
from cupola.engine import Engine
from cupola.errors import CupolaError, NoProviderError
from cupola_server.bench.adapters import ALL
from cupola_server.bench.host import Host
from cupola_server.bench.results import Skipped


@dataclass(frozen=True, slots=True)
class Chosen:
    """A model, and the execution provider that was asked for; empty leaves the choice to placement."""

    model: CachedModel
    provider: str = ""

    @property
    def settings(self) -> tuple[str, ...]:
        """What makes an engine run it there."""
        return (f"models.provider={self.provider}",) if self.provider else ()

    @property
    def options(self) -> str:
        """The table of settings that its provider reads."""
        return f"providers.{self.provider or _short(self.model.info.provider)}"


async def choose(
    host: Host,
    engine: Engine,
    names: Sequence[str],
    providers: Sequence[str],
    progress: Callable[[ProgressEvent], None],
) -> tuple[list[Chosen], list[Skipped]]:
    """Return the models that names and providers mean, downloaded if need be, and what cannot be had.

    Raises:
        CupolaError: A model is unknown, or none can be had.
    """
    found: list[Chosen] = []
    skipped: list[Skipped] = []
    for name in names:
        if not providers:
            found.append(Chosen(await engine.download(name, progress)))
            continue
        await engine.resolve(name)  # so that devices are known, and whether there is such a model
        for provider in _expanded(providers, engine):
            try:
                async with host.open_engine(f"models.provider={provider}") as other:
                    found.append(Chosen(await other.download(name, progress), provider))
            except CupolaError as error:
                skipped.append(Skipped(f"{name} on {provider}", str(error)))
    if not found:
        reasons = "; ".join(one.reason for one in skipped)
        raise NoProviderError(model=", ".join(names), needs=", ".join(providers), available=reasons)
    return list({(one.model.info.id, one.provider): one for one in found}.values()), skipped


def _expanded(providers: Sequence[str], engine: Engine) -> list[str]:
    """Return short names; "all" means every one that has a device here."""
    usable = [_short(device.provider) for device in engine.devices()]
    asked = [name for provider in providers for name in (usable if provider == ALL else [_short(provider)])]
    return list(dict.fromkeys(asked))


def _short(provider: str) -> str:
    return provider.removesuffix("ExecutionProvider").lower()

"""Merges all catalog sources and cache stores into one list of models, and resolves names in it."""

import difflib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cupola.contracts import CachedModel, CacheStore, CatalogSource, Device, ModelInfo
from cupola.errors import CacheError, CupolaError, ModelNotFoundError, RequestError

logger = logging.getLogger(__name__)

# Foundry Local's order of preference: an accelerator's own build before generic ones, generic CPU last.
_RANKS = ("-npu", "-gpu", "-cuda-gpu", "-generic-gpu", "-cpu", "-generic-cpu")


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """A model variant, the source that lists it (None if no source does), and its cached copy (None if absent)."""

    info: ModelInfo
    source: CatalogSource | None
    cached: CachedModel | None


@dataclass(frozen=True, slots=True)
class Listing:
    """The outcome of a source's last listing.

    Attributes:
        source: The source's name.
        listed_at_unix: When the listing was obtained, in seconds since 1970; None if it is always current.
        problem: Why the listing failed, as a sentence; "" if it succeeded.
    """

    source: str
    listed_at_unix: float | None
    problem: str = ""


class ModelIndex:
    """The models of all sources and stores. The first source that lists an id describes it, else its cached copy."""

    def __init__(
        self, sources: Sequence[CatalogSource], stores: Sequence[CacheStore], devices: Sequence[Device] = ()
    ) -> None:
        self._sources = sources
        self._stores = stores
        self._problems: dict[str, str] = {}
        self.use_devices(devices)

    def use_devices(self, devices: Sequence[Device]) -> None:
        """Pass the devices of this machine to the sources. A source that fails is logged."""
        for source in self._sources:
            try:
                source.use_devices(devices)
            except Exception:
                logger.exception("The catalog source %s failed", source.name)

    async def entries(self) -> list[ModelEntry]:
        """List every variant, best first within an alias. A source or store that fails is logged and skipped."""
        cached = await self._cached()
        entries: dict[str, ModelEntry] = {}
        for source in self._sources:
            for info in await self._listed(source):
                entries.setdefault(info.id.lower(), ModelEntry(info, source, cached.get(info.id.lower())))
        for key, model in cached.items():
            entries.setdefault(key, ModelEntry(model.info, None, model))
        return sorted(entries.values(), key=_order)

    async def variants(self, name: str) -> list[ModelEntry]:
        """Resolve an exact id, an id without version (the highest version wins), or an alias, ignoring case.

        Returns:
            The matching variants, best first; more than one only for an alias.

        Raises:
            ModelNotFoundError: Nothing matches; the error suggests similar names.
        """
        entries = await self.entries()
        wanted = name.strip().lower()
        exact = [entry for entry in entries if entry.info.id.lower() == wanted]
        versions = [entry for entry in entries if entry.info.name.lower() == wanted]
        aliases = [entry for entry in entries if entry.info.alias.lower() == wanted]
        if found := exact or sorted(versions, key=lambda entry: -entry.info.version)[:1] or aliases:
            return found
        raise ModelNotFoundError(model=name, near=_similar_names(wanted, entries))

    async def ensure_available(self, model_id: str) -> None:
        """Check that a new model may take this id.

        Raises:
            RequestError: A model already has the id, or one that differs only in case.
        """
        for entry in await self.entries():
            if entry.info.id.lower() == model_id.lower() and (entry.cached or entry.info.id != model_id):
                detail = f"The name is taken by {entry.info.id!r}. Remove that model or choose another name."
                raise RequestError(detail=detail)

    def listings(self) -> list[Listing]:
        """Return the outcome of every source's last listing."""
        return [Listing(each.name, each.listed_at_unix, self._problems.get(each.name, "")) for each in self._sources]

    async def _listed(self, source: CatalogSource) -> Sequence[ModelInfo]:
        try:
            models = await source.models()
        except CupolaError as error:
            self._problems[source.name] = str(error)
            logger.warning("The catalog source %s cannot be listed: %s", source.name, error)
        except Exception as error:
            self._problems[source.name] = f"The catalog {source.name!r} failed: {type(error).__name__}: {error}"
            logger.exception("The catalog source %s failed", source.name)
        else:
            self._problems.pop(source.name, None)
            return models
        return ()

    async def _cached(self) -> Mapping[str, CachedModel]:
        models: dict[str, CachedModel] = {}
        for store in self._stores:
            try:
                for model in await store.list():
                    models.setdefault(model.info.id.lower(), model)
            except CacheError as error:
                logger.warning("The cache store %s cannot be listed: %s", store.name, error)
        return models


def _order(entry: ModelEntry) -> tuple[str, int, bool, bool, int, str]:
    info = entry.info
    name = info.name.lower()
    rank = max((i for i, ending in enumerate(_RANKS) if name.endswith(ending)), default=len(_RANKS))
    is_tuned = info.source == "tuned"  # made for this machine
    return (info.alias.lower(), rank, entry.cached is None, not is_tuned, -info.version, info.id)


def _similar_names(wanted: str, entries: Sequence[ModelEntry]) -> str:
    names = {entry.info.alias for entry in entries} | {entry.info.name for entry in entries}
    lowered = {name.lower(): name for name in names}
    found = difflib.get_close_matches(wanted, lowered, n=3, cutoff=0.5)
    return " or ".join(repr(lowered[name]) for name in found)

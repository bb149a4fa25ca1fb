"""Builds every layout of a model, has each measured, and keeps the best."""

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Literal

from msgspec import Struct, structs

from cupola.contracts import CachedModel, CacheStore, ModelConverter, ModelInfo, Progress, Staging
from cupola.errors import CupolaError, ModelFormatError
from cupola.tuning.quality import Predictions
from cupola.tuning.trial import Trial, try_out
from cupola.worker.process import WorkerSpec

logger = logging.getLogger(__name__)
Goal = Literal["latency", "throughput"]

TUNED = "tuned"
"""The `source` of a model that tuning made; among the variants of an alias such a model comes first."""

_DEVICE_SUFFIXES = ("-generic-cpu", "-generic-gpu", "-cpu", "-gpu", "-npu")


class Tuning(Struct, frozen=True):
    """What came of tuning: every trial, the source's first; the winner's layout; and the id under which it is kept."""

    model: str
    goal: Goal
    trials: tuple[Trial, ...]
    winner: str
    kept: str


class Tuner:
    """Tunes one model.

    Args:
        source: The model, as it came.
        spec: Tells how to start a worker with a folder of its files.
        converters: What makes other layouts.
        store: Where the winner is kept.
    """

    def __init__(
        self,
        source: CachedModel,
        spec: Callable[[CachedModel], WorkerSpec],
        converters: Sequence[ModelConverter],
        store: CacheStore,
    ) -> None:
        self._source, self._spec, self._converters, self._store = source, spec, converters, store

    async def run(
        self, goal: Goal, max_divergence: float, progress: Progress, on_trial: Callable[[Trial], None]
    ) -> Tuning:
        """Measure the source and every other layout, one after the other, and keep the best in the cache.

        Args:
            goal: What to be best at.
            max_divergence: A layout whose predictions are farther from the source's, in nats a token, cannot win.
            progress: Is told how far building a layout is.
            on_trial: Is told of every trial when it is over.

        Raises:
            ModelFormatError: Nothing here can store its weights in another way.
            CupolaError: The source itself does not run.
        """
        source = self._source
        converter = next((one for one in self._converters if one.layouts(source.path)), None)
        if converter is None:
            detail = "no plugin can store its weights in another layout; `cupola plugins` lists the converters"
            raise ModelFormatError(path=str(source.path), detail=detail)
        first, predictions = await try_out(self._spec(source), "", source.size_bytes, [])
        on_trial(first)
        trials = [first]
        async with AsyncExitStack() as stack:
            built: dict[str, Staging] = {}
            for layout in converter.layouts(source.path):
                if layout != first.layout:
                    staging = await stack.enter_async_context(self._discarded(layout))
                    trial = await self._trial(converter, layout, staging, predictions, progress)
                    built[layout] = staging
                    on_trial(trial)
                    trials.append(trial)
            winner = best(trials, goal, max_divergence)
            kept = await built[winner.layout].commit() if winner.layout in built else source
        await self._forget_others(kept)
        return Tuning(source.info.id, goal, tuple(trials), winner.layout, kept.info.id)

    async def _trial(
        self, converter: ModelConverter, layout: str, staging: Staging, source: Predictions, progress: Progress
    ) -> Trial:
        """Build one layout and measure it. What goes wrong costs that layout alone."""
        try:
            await staging.discard()  # what an earlier try may have left
            await converter.convert(self._source.path, staging.path, layout=layout, progress=progress)
            size_bytes = sum(path.stat().st_size for path in staging.path.iterdir())
            model = CachedModel(variant_of(self._source.info, layout), staging.path, size_bytes)
        except CupolaError as error:
            return Trial(layout, problem=str(error))
        trial, _ = await try_out(self._spec(model), layout, size_bytes, source)
        return trial

    @asynccontextmanager
    async def _discarded(self, layout: str) -> AsyncIterator[Staging]:
        """Reserve a place to build a layout in; what was not committed by the end is removed."""
        info = variant_of(self._source.info, layout)
        await self._store.remove(info.id)  # it is built anew
        async with await self._store.reserve(info) as staging:
            try:
                yield staging
            finally:
                if await self._store.find(info.id) is None:
                    await staging.discard()

    async def _forget_others(self, kept: CachedModel) -> None:
        """Remove what earlier tuning kept of this model."""
        for model in await self._store.list():
            is_ours = model.info.source == TUNED and model.info.parent == self._source.info.id
            if is_ours and model.info.id != kept.info.id:
                await self._store.remove(model.info.id)


def best(trials: Sequence[Trial], goal: Goal, max_divergence: float) -> Trial:
    """Choose the fastest for the goal of those that run and are near enough to the source, which comes first."""
    good = [trial for trial in trials if not trial.problem and (trial.divergence or 0.0) <= max_divergence]
    if not good:
        return trials[0]
    return max(good, key=lambda trial: trial.decode_per_s if goal == "latency" else trial.batch_per_s)


def variant_of(info: ModelInfo, layout: str) -> ModelInfo:
    """Describe the model that `info` becomes in another layout: a neighbour of its own, under the same alias."""
    suffix = next((one for one in _DEVICE_SUFFIXES if info.name.endswith(one)), "")
    name = f"{info.name.removesuffix(suffix)}-{layout}{suffix}"
    return structs.replace(info, id=f"{name}:{info.version}", source=TUNED, parent=info.id)

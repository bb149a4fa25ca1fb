"""Builds every layout of a model, measures each, and stores the best."""

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Literal

from msgspec import Struct, structs

from cupola.contracts import CachedModel, CacheStore, ModelConverter, ModelInfo, Progress, Staging
from cupola.errors import CupolaError, ModelFormatError
from cupola.tuning.quality import Predictions
from cupola.tuning.trial import Trial, measure_layout
from cupola.worker.process import WorkerSpec

logger = logging.getLogger(__name__)
Goal = Literal["latency", "throughput"]

TUNED = "tuned"
"""The `source` of models created by tuning, which come first among the variants of an alias."""

_DEVICE_SUFFIXES = ("-generic-cpu", "-generic-gpu", "-cpu", "-gpu", "-npu")


class Tuning(Struct, frozen=True):
    """The result of tuning.

    Attributes:
        model: Id of the source model.
        goal: "latency" or "throughput".
        trials: All trials, that of the source first.
        winner: The layout of the best trial.
        kept: Id of the stored model with that layout.
    """

    model: str
    goal: Goal
    trials: tuple[Trial, ...]
    winner: str
    kept: str


class Tuner:
    """Tunes one model.

    Args:
        source: The original model.
        spec: Returns how to start a worker for a model.
        converters: Create other layouts.
        store: Stores the winner.
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
        """Measure the source and all other layouts one after another, and store the best in the cache.

        Args:
            goal: What to optimize.
            max_divergence: Maximum divergence from the source's predictions, in nats per token.
            progress: Receives the progress of building a layout.
            on_trial: Receives each finished trial.

        Raises:
            ModelFormatError: No converter supports the model.
            CupolaError: The source model does not run.
        """
        source = self._source
        converter = next((candidate for candidate in self._converters if candidate.layouts(source.path)), None)
        if converter is None:
            detail = "no converter supports its weights; `cupola plugins` lists the converters"
            raise ModelFormatError(path=str(source.path), detail=detail)
        first, predictions = await measure_layout(self._spec(source), "", source.size_bytes, [])
        on_trial(first)
        trials = [first]
        async with AsyncExitStack() as stack:
            built: dict[str, Staging] = {}
            for layout in converter.layouts(source.path):
                if layout != first.layout:
                    staging = await stack.enter_async_context(self._reserved(layout))
                    trial = await self._trial(converter, layout, staging, predictions, progress)
                    built[layout] = staging
                    on_trial(trial)
                    trials.append(trial)
            winner = best(trials, goal, max_divergence)
            kept = await built[winner.layout].commit() if winner.layout in built else source
        await self._remove_others(kept)
        return Tuning(source.info.id, goal, tuple(trials), winner.layout, kept.info.id)

    async def _trial(
        self, converter: ModelConverter, layout: str, staging: Staging, source: Predictions, progress: Progress
    ) -> Trial:
        """Build and measure one layout. An error affects only this layout."""
        try:
            await staging.discard()  # files of an earlier try
            await converter.convert(self._source.path, staging.path, layout=layout, progress=progress)
            size_bytes = sum(path.stat().st_size for path in staging.path.iterdir())
            model = CachedModel(variant_of(self._source.info, layout), staging.path, size_bytes)
        except CupolaError as error:
            return Trial(layout, problem=str(error))
        trial, _ = await measure_layout(self._spec(model), layout, size_bytes, source)
        return trial

    @asynccontextmanager
    async def _reserved(self, layout: str) -> AsyncIterator[Staging]:
        """Reserve a staging folder for a layout, which is discarded unless it was committed."""
        info = variant_of(self._source.info, layout)
        await self._store.remove(info.id)  # it is rebuilt
        async with await self._store.reserve(info) as staging:
            try:
                yield staging
            finally:
                if await self._store.find(info.id) is None:
                    await staging.discard()

    async def _remove_others(self, kept: CachedModel) -> None:
        """Remove the models that earlier tuning stored for this model."""
        for model in await self._store.list():
            is_ours = model.info.source == TUNED and model.info.parent == self._source.info.id
            if is_ours and model.info.id != kept.info.id:
                await self._store.remove(model.info.id)


def best(trials: Sequence[Trial], goal: Goal, max_divergence: float) -> Trial:
    """Choose the fastest trial for the goal among those within the divergence limit; the source if there are none."""
    accepted = [trial for trial in trials if not trial.problem and (trial.divergence or 0.0) <= max_divergence]
    if not accepted:
        return trials[0]
    return max(accepted, key=lambda trial: trial.decode_per_s if goal == "latency" else trial.batch_per_s)


def variant_of(info: ModelInfo, layout: str) -> ModelInfo:
    """Describe the variant of a model with another layout, under the same alias."""
    suffix = next((ending for ending in _DEVICE_SUFFIXES if info.name.endswith(ending)), "")
    name = f"{info.name.removesuffix(suffix)}-{layout}{suffix}"
    return structs.replace(info, id=f"{name}:{info.version}", source=TUNED, parent=info.id)

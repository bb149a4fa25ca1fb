"""The quality of models beside their speed: perplexity on a short text, and divergence from a reference model."""

from collections.abc import Mapping, Sequence
from functools import partial

import msgspec

from cupola.contracts import Progress, ProgressEvent
from cupola.engine import Engine
from cupola.errors import CupolaError
from cupola.messages import GenerateRequest, TextPrompt, TokenLogprob, TurnText
from cupola.tuning import TEXT, TextScore, divergence, score_text
from cupola_server.bench.errors import unwrap_groups
from cupola_server.bench.results import Quality, TargetResult
from cupola_server.bench.targets import EngineTarget


async def add_quality(
    results: Sequence[TargetResult], targets: Sequence[EngineTarget], reference: str, progress: Progress
) -> list[TargetResult]:
    """Return the results with the quality of their models.

    Each model is evaluated once, in process; the same predictions are behind its responses over HTTP. Peers expose no
    probabilities and get no quality.

    Args:
        results: Results of all targets.
        targets: The targets in process; each is started to evaluate its model.
        reference: Id of the model to compare predictions with.
        progress: Called with the progress.
    """
    readings: dict[str, TextScore | str] = {}
    for number, target in enumerate(targets):
        progress(ProgressEvent("read", number, len(targets), "variants"))
        if target.model not in readings:
            readings[target.model] = await _evaluate(target)
    return [_with_quality(result, readings, reference) for result in results]


async def _evaluate(target: EngineTarget) -> TextScore | str:
    """Return the predictions of a target's model on the text, or why there are none."""
    try:
        with unwrap_groups():
            async with target.open():
                assert target.engine
                text = await target.engine.tokenize(target.model, TextPrompt(TEXT))
                reading = await score_text(partial(_collect_logprobs, target.engine), text, target.model)
    except CupolaError as error:
        return str(error)
    return reading if reading.logprobs else "its session reports no log probabilities"


async def _collect_logprobs(engine: Engine, request: GenerateRequest) -> list[TokenLogprob]:
    async with engine.generate(request) as turn:
        return [logprob async for event in turn if isinstance(event, TurnText) for logprob in event.logprobs]


def _with_quality(result: TargetResult, readings: Mapping[str, TextScore | str], reference: str) -> TargetResult:
    reading = readings.get(result.model)
    if not result.settings.get("provider"):
        return result  # a peer
    if reading is None or isinstance(reading, str):
        return msgspec.structs.replace(result, quality_problem=reading or "its model was not evaluated")
    source = readings.get(reference)
    distance = divergence(source.tops, reading.tops) if isinstance(source, TextScore) else None
    quality = Quality(reading.perplexity, distance, reference, len(reading.logprobs))
    return msgspec.structs.replace(result, quality=quality)

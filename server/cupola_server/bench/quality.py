"""Quality beside speed: has variants read one text, and compares them with a reference."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import msgspec

from cupola.contracts import ProgressEvent
from cupola.engine import Engine
from cupola.errors import CupolaError
from cupola.messages import GenerateRequest, TextPrompt, TokenLogprob, TurnText
from cupola.tuning import TEXT, Reading, divergence, read_text
from cupola_server.bench.errors import plain_errors
from cupola_server.bench.results import Quality, TargetResult
from cupola_server.bench.targets import EngineTarget


async def judged(
    results: Sequence[TargetResult],
    targets: Sequence[EngineTarget],
    reference: str,
    progress: Callable[[ProgressEvent], None],
) -> list[TargetResult]:
    """Return the results with the quality of what they ran.

    What HTTP and peers answer with is what the engine's variants are made of, so one reading holds for all results of
    one model and the same settings; peers have none of their own.

    Args:
        results: Of all targets.
        targets: Those in process, whose models can be read; they are started for it.
        reference: Model to compare with.
        progress: Is told how far it is.
    """
    readings: dict[str, Reading | str] = {}
    for number, target in enumerate(targets):
        progress(ProgressEvent("read", number, len(targets), "variants"))
        if target.model not in readings:
            readings[target.model] = await _read(target)
    return [_with_quality(result, readings, reference) for result in results]


async def _read(target: EngineTarget) -> Reading | str:
    """Have a target's model read the text; returns why it could not if so."""
    try:
        with plain_errors():
            async with target.open():
                assert target.engine
                text = await target.engine.tokenize(target.model, TextPrompt(TEXT))
                reading = await read_text(partial(_logprobs, target.engine), text, target.model)
    except CupolaError as error:
        return str(error)
    return reading if reading.logprobs else "its session tells no log probabilities"


async def _logprobs(engine: Engine, request: GenerateRequest) -> list[TokenLogprob]:
    async with engine.generate(request) as turn:
        return [one async for event in turn if isinstance(event, TurnText) for one in event.logprobs]


def _with_quality(result: TargetResult, readings: Mapping[str, Reading | str], reference: str) -> TargetResult:
    reading = readings.get(result.model)
    if not result.settings.get("provider"):
        return result  # a peer, whose answers are its own
    if reading is None or isinstance(reading, str):
        return msgspec.structs.replace(result, quality_problem=reading or "it was not read")
    source = readings.get(reference)
    distance = divergence(source.tops, reading.tops) if isinstance(source, Reading) else None
    quality = Quality(reading.perplexity, distance, reference, len(reading.logprobs))
    return msgspec.structs.replace(result, quality=quality)

"""Keeps what was measured where placement finds it."""

import logging
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from cupola.measurements import Measurement, Measurements
from cupola_server.bench.choosing import Chosen
from cupola_server.bench.results import CellResult, Result, TargetResult

logger = logging.getLogger(__name__)


def record(result: Result, chosen: Sequence[Chosen], path: Path) -> None:
    """Record how fast each model ran in process, with the settings that it runs with otherwise.

    What others disturbed in most of its rounds is not recorded. A file that cannot be written costs a warning.
    """
    devices = {one.model.info.id: one.model.info.device for one in chosen}
    for target in result.targets:
        decode, prefill = target.cell("decode", 1), target.cell("prefill", 1, result.plan.prompt_tokens[-1])
        is_usual = target.name.startswith("in-process") and "-thread" not in target.name
        if not is_usual or not _is_quiet(decode):
            continue
        assert decode
        speed, prompt = decode.figure("decode_per_s"), prefill.figure("prefill_per_s") if prefill else None
        if speed is None:
            continue
        measurement = Measurement(
            model=target.model,
            provider=target.settings["provider"],
            device=devices[target.model],
            decode_tokens_per_s=speed.median,
            prefill_tokens_per_s=prompt.median if prompt else 0.0,
            measured_at_unix=datetime.fromisoformat(result.machine.when).timestamp(),
            versions=_versions(result, target),
        )
        try:
            Measurements(path).record(measurement)
        except OSError as error:
            logger.warning("What was measured cannot be kept in %s: %s", path, error)


def _is_quiet(cell: CellResult | None) -> bool:
    return cell is not None and 2 * sum(sample.noisy for sample in cell.samples) <= len(cell.samples)


def _versions(result: Result, target: TargetResult) -> dict[str, str]:
    runtimes = {name: version for name, version in result.machine.versions.items() if name.startswith("onnxruntime")}
    return {**runtimes, **target.versions}

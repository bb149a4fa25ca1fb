"""Decides which models a run measures, and where, and has them in the cache."""

import hashlib
import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cupola.contracts import CachedModel, ProgressEvent
from cupola.engine import Engine
from cupola.errors import CupolaError, NoProviderError
from cupola.measurements import Measurement, Measurements
from cupola_server.bench.adapters import ALL
from cupola_server.bench.results import CellResult, Result, Skipped, TargetResult


@dataclass(frozen=True, slots=True)
class Host:
    """Made by the command line, and by tests.

    Attributes:
        open_engine: Opens an engine; its arguments are settings, "section.key=value".
        command: Starts the program with the settings of this one.
        measurements: Where placement looks for what was measured; None keeps nothing.
    """

    open_engine: Callable[..., AbstractAsyncContextManager[Engine]]
    command: Sequence[str]
    measurements: Path | None = None


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


_NOT_MODEL = {"cupola.manifest.json", "inference_model.json"}


def digest_of(folder: Path) -> str:
    """Return a SHA-256 over the names and contents of a model's files; what caches add does not count."""
    whole = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name not in _NOT_MODEL:
            with path.open("rb") as file:
                whole.update(f"{path.relative_to(folder).as_posix()}\0".encode())
                whole.update(hashlib.file_digest(file, "sha256").digest())
    return whole.hexdigest()

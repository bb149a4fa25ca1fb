"""The models of a benchmark: which ones are measured and where, the digest of their files, and what placement gets."""

import hashlib
import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cupola.contracts import CachedModel, Progress
from cupola.engine import Engine
from cupola.errors import CupolaError, NoProviderError
from cupola.measurements import Measurement, Measurements
from cupola_server.bench.adapters import ALL
from cupola_server.bench.results import CellResult, Result, Skipped, TargetResult

logger = logging.getLogger(__name__)

_FILES_OF_CACHES = {"cupola.manifest.json", "inference_model.json"}


@dataclass(frozen=True, slots=True)
class Launcher:
    """What starts engines and services for a benchmark, with the settings of the command line.

    Attributes:
        open_engine: Opens an engine; its arguments are further settings, "section.key=value".
        command: Command line of the program `cupola`, with its global options.
        measurements_path: The file that placement reads measured speeds from; None to record nothing.
    """

    open_engine: Callable[..., AbstractAsyncContextManager[Engine]]
    command: Sequence[str]
    measurements_path: Path | None = None


@dataclass(frozen=True, slots=True)
class SelectedModel:
    """A model to measure, and the short name of the requested provider; empty to leave it to placement."""

    model: CachedModel
    provider: str = ""

    @property
    def settings(self) -> tuple[str, ...]:
        """The settings with which an engine runs it on that provider."""
        return (f"models.provider={self.provider}",) if self.provider else ()

    @property
    def provider_section(self) -> str:
        """The section of the settings that its provider reads, such as "providers.cpu"."""
        return f"providers.{self.provider or _short_name(self.model.info.provider)}"


async def select_models(
    launcher: Launcher,
    engine: Engine,
    names: Sequence[str],
    providers: Sequence[str],
    progress: Progress,
) -> tuple[list[SelectedModel], list[Skipped]]:
    """Return the models to measure, downloaded if need be, and those that cannot be measured.

    Args:
        launcher: Opens engines for other providers.
        engine: An open engine.
        names: Names of models.
        providers: Names of execution providers or "all"; empty to leave the choice to placement.
        progress: Called with the progress of downloads.

    Raises:
        NoProviderError: No model is usable on any of the providers.
        CupolaError: A model is unknown or cannot be downloaded.
    """
    selected: list[SelectedModel] = []
    skipped: list[Skipped] = []
    for name in names:
        if not providers:
            selected.append(SelectedModel(await engine.download(name, progress)))
            continue
        await engine.resolve(name)  # raises if the model is unknown, and makes the devices known
        for provider in _expand_providers(providers, engine):
            try:
                async with launcher.open_engine(f"models.provider={provider}") as other:
                    selected.append(SelectedModel(await other.download(name, progress), provider))
            except CupolaError as error:
                skipped.append(Skipped(f"{name} on {provider}", str(error)))
    if not selected:
        reasons = "; ".join(model.reason for model in skipped)
        raise NoProviderError(model=", ".join(names), needs=", ".join(providers), available=reasons)
    unique = {(chosen.model.info.id, chosen.provider): chosen for chosen in selected}
    return list(unique.values()), skipped


def hash_model(folder: Path) -> str:
    """Return a SHA-256 over the names and contents of a model's files, without the files that caches add."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name not in _FILES_OF_CACHES:
            with path.open("rb") as file:
                digest.update(f"{path.relative_to(folder).as_posix()}\0".encode())
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def record_measurements(result: Result, models: Sequence[SelectedModel], path: Path) -> None:
    """Record for placement how fast each model ran in process, with its usual number of threads.

    A target that other programs disturbed in most rounds is not recorded. A file that cannot be written is logged.
    """
    devices = {selected.model.info.id: selected.model.info.device for selected in models}
    for target in result.targets:
        decode, prefill = target.cell("decode", 1), target.cell("prefill", 1, result.plan.prompt_tokens[-1])
        has_usual_settings = target.name.startswith("in-process") and "-thread" not in target.name
        if not has_usual_settings or not _is_quiet(decode):
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
            versions=_runtime_versions(result, target),
        )
        try:
            Measurements(path).record(measurement)
        except OSError as error:
            logger.warning("The measured speed cannot be recorded in %s: %s", path, error)


def _expand_providers(providers: Sequence[str], engine: Engine) -> list[str]:
    """Return short names of providers; "all" stands for every provider that has a device on this machine."""
    usable = [_short_name(device.provider) for device in engine.devices()]
    names = [name for provider in providers for name in (usable if provider == ALL else [_short_name(provider)])]
    return list(dict.fromkeys(names))


def _short_name(provider: str) -> str:
    return provider.removesuffix("ExecutionProvider").lower()


def _is_quiet(cell: CellResult | None) -> bool:
    return cell is not None and 2 * sum(sample.noisy for sample in cell.samples) <= len(cell.samples)


def _runtime_versions(result: Result, target: TargetResult) -> dict[str, str]:
    runtimes = {name: version for name, version in result.machine.versions.items() if name.startswith("onnxruntime")}
    return {**runtimes, **target.versions}

"""Settings: one Struct, filled from a TOML file, then `CUPOLA_*` variables, then flags. Each layer wins over the last.

The file is `config.toml` in the platform's configuration folder, or what `CUPOLA_CONFIG` names. A setting `key` in
`[section]` is `CUPOLA_SECTION_KEY` in the environment and `--set section.key=value` on the command line.
"""

import contextlib
import difflib
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import platformdirs
from msgspec import Meta, Struct, structs

from cupola.errors import SettingsError
from cupola.settings.catalogs import AzureSettings as AzureSettings
from cupola.settings.catalogs import FoundryCatalogSettings as FoundryCatalogSettings
from cupola.settings.external import ExternalSettings as ExternalSettings
from cupola.settings.section import Count, Name, Seconds, Section

CONFIG_VARIABLE = "CUPOLA_CONFIG"


class ServerSettings(Section, frozen=True, kw_only=True):
    """Where to listen, whom to answer, and how long to wait for clients.

    Attributes:
        host: Address to listen on. Any but a loopback one needs API keys.
        port: 0 takes a free one.
        uds: Path of a Unix domain socket to listen on, for this user alone, instead of an address.
        drain_timeout_s: When the service stops, the time that running answers have to end.
        api_keys: Keys; with any set, every request must bring one of them as "Authorization: Bearer KEY".
        api_key_file: A file of more keys, one a line; lines that begin with # are skipped.
        allowed_hosts: Names, beside its own, by which clients may call the service; "*" for any.
        cors_origins: Web pages that may use the service, as "https://app.example"; "*" for any, if keys are set.
        max_body_mb: Longest body of a request, in units of 2^20 bytes.
        body_timeout_s: Time in which a body must arrive, beside a second for every 10 kB of it.
        idle_timeout_s: Time in which a connection must bring a whole request head, the next one included.
    """

    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535)] = 5272
    uds: str = ""
    drain_timeout_s: Seconds = 10.0
    api_keys: tuple[str, ...] = ()
    api_key_file: str = ""
    allowed_hosts: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()
    max_body_mb: Annotated[int, Meta(ge=1, le=1024)] = 16
    body_timeout_s: Annotated[float, Meta(gt=0)] = 30.0
    idle_timeout_s: Annotated[float, Meta(gt=0)] = 75.0

    def __repr__(self) -> str:
        """Show everything but the keys, which belong in no log and no traceback."""
        shown = {name: getattr(self, name) for name in self.__struct_fields__ if name != "api_keys"}
        keys = f"({len(self.api_keys)} hidden)"
        return f"ServerSettings({', '.join(f'{name}={value!r}' for name, value in shown.items())}, api_keys={keys})"


class ServiceSettings(Section, frozen=True, kw_only=True):
    """The background service, one for each user and cache. Whom it answers, and how, is up to `[server]`.

    Attributes:
        port: Where it listens; 0 takes a free one.
        dir: Where it says how it is reached. Empty means `service` in the platform's data folder.
        log_dir: Where it writes logs. Empty means the platform's folder for logs.
        log_level: The least that is worth a line.
        log_size_mb: Size at which a log file is put aside and a new one begun, in 10^6 bytes.
        log_files: How many of those are kept, beside the current one.
        start_timeout_s: A service that is not ready by then is given up.
    """

    port: Annotated[int, Meta(ge=0, le=65535)] = 0
    dir: str = ""
    log_dir: str = ""
    log_level: Literal["debug", "info", "warning", "error", "critical"] = "info"
    log_size_mb: Annotated[float, Meta(gt=0)] = 5.0
    log_files: Count = 5
    start_timeout_s: Annotated[float, Meta(gt=0)] = 30.0


class CacheSettings(Section, frozen=True, kw_only=True):
    """Where models lie. Empty means the platform's cache folder."""

    dir: str = ""


class DownloadSettings(Section, frozen=True, kw_only=True):
    """How files are fetched.

    Attributes:
        workers: Connections at a time, over all files of a model.
        chunk_mb: Size of the pieces that are fetched, and after a crash fetched again, in 10^6 bytes.
        speed_limit_mbps: Most that a download may take, in 10^6 bits per second; 0 sets no limit.
        connect_timeout_s: A server that takes no connection by then counts as down.
        stall_timeout_s: A connection on which next to nothing arrives for this long is given up and tried anew.
        retries: How often a piece is tried again before the download fails. Every one that brings more is free.
        retry_pause_s: Before the first retry; it doubles with each, up to 30 s. A server's Retry-After counts more.
    """

    workers: Annotated[int, Meta(ge=1, le=64)] = 8
    chunk_mb: Annotated[float, Meta(gt=0)] = 8.0
    speed_limit_mbps: Annotated[float, Meta(ge=0)] = 0.0
    connect_timeout_s: Seconds = 15.0
    stall_timeout_s: Seconds = 30.0
    retries: Annotated[int, Meta(ge=0)] = 5
    retry_pause_s: Seconds = 0.5


class ModelSettings(Section, frozen=True, kw_only=True):
    """How models come and go.

    Attributes:
        default: The model that `cupola model run` takes when none is named.
        provider: The execution provider that runs models, such as "openvino"; empty leaves the choice.
        device: The type of device that they run on; empty leaves the choice.
        ttl_s: Idle seconds after which a model is unloaded; 0 keeps it for good.
        preload: Models to load when the service starts.
        auto_download: Whether a request may start a download.
        context_length: Upper bound for every model's context in tokens; 0 takes the model's own.
        queue_limit: Turns that may wait for one model, beside those that run.
        memory_budget_mb: What all loaded models together may take, in 10^6 bytes, before idle ones make room; 0 takes
            three quarters of the machine's memory.
        pinned: Models that never have to make room.
        min_provider_share: The share of a model's graph that its execution provider must take, of 1: the nodes that it
            leaves are computed on the processor. With less, the model is refused.
        allow_fallback: Whether a model runs all the same where its provider takes less.
        fallback: The model, here or elsewhere, that answers requests for one that this machine cannot run; empty for
            none.
    """

    default: str = "smollm2-135m"
    ttl_s: Seconds = 600.0
    preload: tuple[str, ...] = ()
    provider: str = ""
    device: Literal["", "CPU", "GPU", "NPU"] = ""
    auto_download: bool = False
    context_length: Annotated[int, Meta(ge=0)] = 0
    queue_limit: Annotated[int, Meta(ge=0)] = 64
    memory_budget_mb: Annotated[int, Meta(ge=0)] = 0
    pinned: tuple[str, ...] = ()
    min_provider_share: Annotated[float, Meta(ge=0, le=1)] = 0.8
    allow_fallback: bool = False
    fallback: str = ""


class WorkerSettings(Section, frozen=True, kw_only=True):
    """Limits of worker processes.

    Attributes:
        load_timeout_s: A model that is not loaded by then is given up.
        step_timeout_s: A worker that makes no step for this long while turns run is ended.
        prefill_chunk: Most prompt tokens computed in one step; half as many while others wait for it.
        restart_limit: Starts of one model within a minute after which it is refused for the rest of it.
    """

    load_timeout_s: Seconds = 600.0
    step_timeout_s: Seconds = 120.0
    prefill_chunk: Annotated[int, Meta(ge=16)] = 256
    restart_limit: Count = 5


class MachineSettings(Section, frozen=True, kw_only=True):
    """What is installed for this machine and known of it.

    Attributes:
        dir: Folder of the environments of execution providers, of what their probes found, and of measurements.
            Empty means `machine` in the platform's data folder.
        probe_timeout_s: A provider that has not reported its devices by then has none.
    """

    dir: str = ""
    probe_timeout_s: Annotated[float, Meta(gt=0)] = 8.0


class ResponseSettings(Section, frozen=True, kw_only=True):
    """What is kept of answers that clients want to come back to (`store` of OpenAI's responses).

    Attributes:
        max_stored: Answers kept; beyond it the oldest goes.
        ttl_days: Days after which one is deleted.
        dir: Where they lie. Empty means `responses` in the platform's data folder.
    """

    max_stored: Count = 1000
    ttl_days: Annotated[float, Meta(gt=0)] = 30.0
    dir: str = ""


class PluginSettings(Section, frozen=True, kw_only=True):
    """Which plugins to use. `disabled` names entry points."""

    disabled: tuple[str, ...] = ()
    strict: bool = False


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that can be set. `providers` holds one table per execution provider, checked by the provider."""

    server: ServerSettings = ServerSettings()
    service: ServiceSettings = ServiceSettings()
    cache: CacheSettings = CacheSettings()
    downloads: DownloadSettings = DownloadSettings()
    models: ModelSettings = ModelSettings()
    worker: WorkerSettings = WorkerSettings()
    machine: MachineSettings = MachineSettings()
    responses: ResponseSettings = ResponseSettings()
    plugins: PluginSettings = PluginSettings()
    azure: AzureSettings = AzureSettings()
    external: dict[Name, ExternalSettings] = {}
    providers: dict[str, dict[str, Any]] = {}

    def for_workers(self) -> "Settings":
        """Return what a worker process may know: all but how the service and other ones are reached."""
        return msgspec.structs.replace(self, server=ServerSettings(), external={})

    @property
    def cache_dir(self) -> Path:
        """The folder of cached models, absolute."""
        if self.cache.dir:
            return Path(self.cache.dir).expanduser().absolute()
        return Path(platformdirs.user_cache_dir("cupola", appauthor=False)) / "models"

    @property
    def machine_dir(self) -> Path:
        """The folder of what is installed for this machine and known of it, absolute."""
        if self.machine.dir:
            return Path(self.machine.dir).expanduser().absolute()
        return Path(platformdirs.user_data_dir("cupola", appauthor=False)) / "machine"

    @property
    def environments_dir(self) -> Path:
        """The folder of the environments of execution providers."""
        return self.machine_dir / "environments"

    @property
    def measurements_path(self) -> Path:
        """The file of measurements; see `cupola.measurements`."""
        return self.machine_dir / "measurements.json"

    @property
    def service_dir(self) -> Path:
        """The folder of the background services' own files, absolute."""
        if self.service.dir:
            return Path(self.service.dir).expanduser().absolute()
        return Path(platformdirs.user_data_dir("cupola", appauthor=False)) / "service"

    @property
    def log_dir(self) -> Path:
        """The folder of the background service's logs, absolute."""
        if self.service.log_dir:
            return Path(self.service.log_dir).expanduser().absolute()
        return Path(platformdirs.user_log_dir("cupola", appauthor=False))

    @property
    def responses_dir(self) -> Path:
        """The folder of stored answers, absolute."""
        if self.responses.dir:
            return Path(self.responses.dir).expanduser().absolute()
        return Path(platformdirs.user_data_dir("cupola", appauthor=False)) / "responses"


def default_path() -> Path:
    """Return where the settings file is looked for when `CUPOLA_CONFIG` does not say."""
    return Path(platformdirs.user_config_dir("cupola", appauthor=False)) / "config.toml"


def file_path(path: Path | None = None, *, environ: Mapping[str, str] = os.environ) -> Path:
    """Return which settings file counts: the one given, what `CUPOLA_CONFIG` names, or the platform's place."""
    return path or (Path(environ[CONFIG_VARIABLE]) if CONFIG_VARIABLE in environ else default_path())


def load_settings(
    overrides: Iterable[str] = (),
    *,
    environ: Mapping[str, str] = os.environ,
    path: Path | None = None,
) -> Settings:
    """Read the settings.

    Args:
        overrides: "section.key=value" strings, from flags.
        environ: Where `CUPOLA_*` variables come from.
        path: The file; None means `CUPOLA_CONFIG` or the platform's place. Only a file that was named must exist.

    Raises:
        SettingsError: Names the key and where it was set.
    """
    file = file_path(path, environ=environ)
    tables = _read_file(file, must_exist=path is not None or CONFIG_VARIABLE in environ)
    _check(tables, source=str(file))
    for name, value in sorted(environ.items()):
        if name.startswith("CUPOLA_") and name != CONFIG_VARIABLE:
            tables = _overridden(tables, _key_of(name), value, source=f"the environment variable {name}")
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals:
            raise SettingsError(key=key, source="--set", problem="expected section.key=value")
        tables = _overridden(tables, key.strip(), value.strip(), source="--set")
    return msgspec.convert(tables, Settings)


def _key_of(variable: str) -> str:
    """Return the setting behind CUPOLA_SECTION_KEY, or CUPOLA_PROVIDERS_NAME_KEY."""
    words = variable.removeprefix("CUPOLA_").lower()
    return words.replace("_", ".", 2 if words.startswith(("providers_", "external_")) else 1)


def _read_file(path: Path, *, must_exist: bool) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        if must_exist:
            raise SettingsError(key="", source=str(path), problem="the file does not exist") from None
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(key="", source=str(path), problem=str(error)) from error


def _overridden(tables: dict[str, Any], key: str, text: str, *, source: str) -> dict[str, Any]:
    """Return the tables with one value set: read as TOML where that fits, else as plain text, else as a list."""
    readings: list[Any] = [text, [item.strip() for item in text.split(",") if item.strip()]]
    with contextlib.suppress(tomllib.TOMLDecodeError):
        readings.insert(0, tomllib.loads(f"value = {text}")["value"])
    problems = []
    for value in readings:
        changed = _with_value(tables, key.split("."), value)
        try:
            _check(changed, source=source, key=key)
        except SettingsError as error:
            problems.append(error)
        else:
            return changed
    raise problems[0]


def _with_value(tables: dict[str, Any], path: list[str], value: object) -> dict[str, Any]:
    if len(path) == 1:
        return {**tables, path[0]: value}
    inner = tables.get(path[0], {})
    return {**tables, path[0]: _with_value(inner if isinstance(inner, dict) else {}, path[1:], value)}


def _check(tables: dict[str, Any], *, source: str, key: str = "") -> None:
    try:
        msgspec.convert(tables, Settings)
    except msgspec.ValidationError as error:
        text = str(error)
        problem, _, where = text.partition(" - at `$.")
        unknown = re.search(r"unknown field `(\w+)`", problem)
        parts = [part for part in (where.rstrip("`"), unknown.group(1) if unknown else "") if part]
        key = ".".join(parts) or key
        problem = f"there is no such setting{_near(key)}" if unknown else problem[0].lower() + problem[1:]
        raise SettingsError(key=key, source=source, problem=problem) from None


def _near(key: str) -> str:
    """Return "; the nearest is 'server.port'", or nothing if none resembles the key."""
    names = []
    for section in structs.fields(Settings):
        names.append(section.name)
        if isinstance(section.type, type) and issubclass(section.type, Struct):
            names += [f"{section.name}.{field.name}" for field in structs.fields(section.type)]
    found = difflib.get_close_matches(key, names, n=1, cutoff=0.75)
    return f"; the nearest is {found[0]!r}" if found else ""

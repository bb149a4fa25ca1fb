"""Every error that Cupola raises on purpose, and nothing else.

CupolaError
├── SettingsError                 a setting is unknown or has the wrong type
├── PluginConflictError           two plugins contribute the same name
├── PluginsFailedError            --strict-plugins, and a plugin failed
├── ModelNotFoundError            no catalog knows that name
├── ModelNotCachedError           known, but its files are not here
├── ModelBusyError                unload refused: turns are running
├── CatalogError                  a catalog source cannot list its models
├── NoProviderError               no execution provider can run the model
│   └── NoGpuError
├── ProviderInstallError          the environment of an execution provider could not be made
├── DownloadError                 the files could not be fetched; a retry may help
│   └── DigestMismatchError       what arrived is not what was announced
├── CacheError                    the cache folder cannot be read or written
│   └── DiskFullError             not enough room for the model
├── ModelFormatError              a model file is damaged or of a kind not supported
├── RequestError                  the request cannot be honoured as it stands
│   ├── InvalidParameterError     one field is out of range or not supported
│   └── ContextLengthExceededError
├── QueueFullError                too many turns wait for this model
├── MemoryBudgetError             other models use the memory, and none of them can go
├── ServiceError                  the background service cannot be reached, or cannot do what was asked
│   ├── ServiceStartError         it did not start
│   └── ServiceReplyError         it answered with an error
├── ExternalServiceError          a service elsewhere failed (cupola.external.errors)
└── WorkerError                   a worker process failed
    ├── WorkerDiedError           it ended while it was needed
    ├── WorkerHungError           it was ended: no step within the limit
    └── LoadError                 it could not load the model
        └── FallbackError         the provider would run only a part of it

Errors are dataclasses: their fields survive the trip from a worker process (`to_wire`, `from_wire`), and `str()` is
the sentence for the user, which says what to do next.
"""

import errno
import shutil
from dataclasses import dataclass
from pathlib import Path

from cupola.errors.root import CupolaError as CupolaError
from cupola.errors.root import WireError as WireError
from cupola.errors.root import from_wire as from_wire
from cupola.errors.root import to_wire as to_wire
from cupola.errors.service import ServiceError as ServiceError
from cupola.errors.service import ServiceReplyError as ServiceReplyError
from cupola.errors.service import ServiceStartError as ServiceStartError


@dataclass(eq=False, kw_only=True)
class SettingsError(CupolaError):
    """A setting is unknown or has the wrong type; without a `key`, the file `source` cannot be read."""

    key: str
    source: str
    problem: str

    def __str__(self) -> str:
        if not self.key:
            return f"Settings file {self.source}: {self.problem}. Correct it, or name another one."
        return f"Setting {self.key!r} in {self.source}: {self.problem}. Correct or remove it there."


@dataclass(eq=False, kw_only=True)
class PluginConflictError(CupolaError):
    """Two plugins contribute the same name."""

    kind: str
    name: str
    first: str
    second: str

    def __str__(self) -> str:
        return (
            f"Two plugins contribute the {self.kind} {self.name!r}: {self.first} and {self.second}. "
            f"Uninstall one of them, or switch it off with plugins.disabled in the settings."
        )


@dataclass(eq=False, kw_only=True)
class PluginsFailedError(CupolaError):
    """Plugins failed and the user asked for strictness."""

    failures: str

    def __str__(self) -> str:
        return f"Plugins failed, and --strict-plugins is set: {self.failures}"


@dataclass(eq=False, kw_only=True)
class ModelNotFoundError(CupolaError):
    """No catalog source and no cache store knows the name."""

    model: str
    near: str = ""

    def __str__(self) -> str:
        hint = f" Did you mean {self.near}?" if self.near else ""
        return f"No model is called {self.model!r}.{hint} `cupola model list` shows what there is."


@dataclass(eq=False, kw_only=True)
class ModelNotCachedError(CupolaError):
    """The model is in a catalog, but its files are not on this machine."""

    model: str

    def __str__(self) -> str:
        return (
            f"The model {self.model!r} is not downloaded yet. Run `cupola model download {self.model}`, "
            f"or set models.auto_download = true."
        )


@dataclass(eq=False, kw_only=True)
class ModelBusyError(CupolaError):
    """An unload was refused because turns are running."""

    model: str
    turns: int

    def __str__(self) -> str:
        return f"{self.model!r} is answering {self.turns} request(s). Wait for them, or unload with force."


@dataclass(eq=False, kw_only=True)
class CatalogError(CupolaError):
    """A catalog source cannot list its models."""

    source: str
    detail: str

    def __str__(self) -> str:
        return f"The catalog {self.source!r} cannot be listed: {self.detail}. Models on this machine work without it."


@dataclass(eq=False, kw_only=True)
class NoProviderError(CupolaError):
    """No execution provider on this machine runs any variant of the model."""

    model: str
    needs: str
    available: str
    remedy: str = ""

    def __str__(self) -> str:
        return (
            f"Nothing here runs {self.model!r}: it needs {self.needs}; available: {self.available or 'none'}. "
            f"{self.remedy or '`cupola doctor` says of every provider what is in its way.'}"
        )


@dataclass(eq=False, kw_only=True)
class NoGpuError(NoProviderError):
    """A GPU was chosen where no execution provider has one; `model` says what it was chosen for."""

    model: str = "any model"
    needs: str = "a GPU"

    def __str__(self) -> str:
        return (
            f"No execution provider here has a GPU to choose; available: {self.available or 'none'}. "
            f"`cupola doctor` says of every provider what is in its way."
        )


@dataclass(eq=False, kw_only=True)
class ProviderInstallError(CupolaError):
    """The environment of an execution provider could not be made; what was there before is as it was."""

    provider: str
    detail: str

    def __str__(self) -> str:
        return f"The execution provider {self.provider!r} was not installed: {self.detail.rstrip('.')}."


@dataclass(eq=False, kw_only=True)
class DownloadError(CupolaError):
    """Files could not be fetched. Trying again resumes where it stopped, where the source allows it."""

    model: str
    detail: str

    def __str__(self) -> str:
        return f"Downloading {self.model!r} failed: {self.detail}"


@dataclass(eq=False, kw_only=True)
class DigestMismatchError(DownloadError):
    """A file arrived whole but is not the announced one; it was deleted."""

    file: str
    expected: str
    actual: str

    def __str__(self) -> str:
        return (
            f"Downloading {self.model!r} failed: {self.file} should have {self.expected} but has {self.actual}. "
            f"The file was deleted; try again, and if it happens again, distrust the source or a proxy on the way."
        )


@dataclass(eq=False, kw_only=True)
class CacheError(CupolaError):
    """The cache folder cannot be used."""

    path: str
    detail: str

    def __str__(self) -> str:
        return f"The model cache at {self.path} cannot be used: {self.detail}. Set cache.dir to a folder you may write."

    @staticmethod
    def from_os(error: OSError, folder: Path, *, needed_bytes: int = 0) -> "CacheError":
        """Explain what the operating system says about a cache folder; a full disk is a `DiskFullError`."""
        detail = error.strerror or str(error)
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            return CacheError(path=str(folder), detail=detail)
        free_bytes = shutil.disk_usage(next(place for place in (folder, *folder.parents) if place.exists())).free
        return DiskFullError(path=str(folder), detail=detail, needed_bytes=needed_bytes, free_bytes=free_bytes)


@dataclass(eq=False, kw_only=True)
class DiskFullError(CacheError):
    """There is not enough room for the model."""

    needed_bytes: int
    free_bytes: int

    def __str__(self) -> str:
        return (
            f"Not enough room in {self.path}: {self.needed_bytes / 1e6:,.0f} MB needed, "
            f"{self.free_bytes / 1e6:,.0f} MB free. Free some space or set cache.dir to another disk."
        )


@dataclass(eq=False, kw_only=True)
class ModelFormatError(CupolaError):
    """A model file is damaged, or of a kind that is not supported."""

    path: str
    detail: str

    def __str__(self) -> str:
        return f"{self.path}: {self.detail}"


@dataclass(eq=False, kw_only=True)
class RequestError(CupolaError):
    """The request cannot be honoured as it stands."""

    detail: str


@dataclass(eq=False, kw_only=True)
class InvalidParameterError(RequestError):
    """One field of the request is out of range or cannot be honoured."""

    param: str


@dataclass(eq=False, kw_only=True)
class ContextLengthExceededError(RequestError):
    """Prompt and requested answer do not fit in the model's context. All three are in tokens."""

    detail: str = ""
    context_length: int
    prompt_tokens: int
    completion_tokens: int

    def __str__(self) -> str:
        return (
            f"This model's context holds {self.context_length} tokens; the request asks for "
            f"{self.prompt_tokens + self.completion_tokens} ({self.prompt_tokens} in the prompt, "
            f"{self.completion_tokens} in the answer). Shorten the prompt or lower max_tokens."
        )


@dataclass(eq=False, kw_only=True)
class QueueFullError(CupolaError):
    """Too many turns already wait for this model."""

    model: str
    limit: int
    retry_after_s: int = 1

    def __str__(self) -> str:
        return f"{self.model!r} already has {self.limit} requests waiting. Try again in {self.retry_after_s} s."


@dataclass(eq=False, kw_only=True)
class MemoryBudgetError(CupolaError):
    """The models in use leave no room for another one."""

    model: str
    needed_bytes: int
    budget_bytes: int
    holders: str

    def __str__(self) -> str:
        return (
            f"{self.model!r} needs {self.needed_bytes / 1e6:,.0f} MB, but of the budget of "
            f"{self.budget_bytes / 1e6:,.0f} MB too much is in use by {self.holders}. Try again when they are idle, "
            f"unpin one, or raise models.memory_budget_mb."
        )


@dataclass(eq=False, kw_only=True)
class WorkerError(CupolaError):
    """A worker process failed."""

    detail: str


@dataclass(eq=False, kw_only=True)
class WorkerDiedError(WorkerError):
    """The worker ended while it was needed; the next request starts a new one."""

    model: str
    detail: str = ""

    def __str__(self) -> str:
        return (
            f"The worker process of {self.model!r} ended unexpectedly ({self.detail}). "
            f"The answer is lost; the next request starts a new worker."
        )


@dataclass(eq=False, kw_only=True)
class WorkerHungError(WorkerError):
    """The worker made no step within the limit and was ended."""

    model: str
    limit_s: float
    detail: str = ""

    def __str__(self) -> str:
        return (
            f"The worker process of {self.model!r} made no progress for {self.limit_s:g} s and was ended. The next "
            f"request starts a new one; raise worker.step_timeout_s if this machine needs longer for a step."
        )


@dataclass(eq=False, kw_only=True)
class LoadError(WorkerError):
    """A worker could not load the model."""

    model: str

    def __str__(self) -> str:
        return f"{self.model!r} could not be loaded: {self.detail}"


@dataclass(eq=False, kw_only=True)
class FallbackError(LoadError):
    """The provider took so few nodes of the model's graph that another one, mostly the CPU, would do the work."""

    detail: str = ""
    provider: str
    taken: int
    total: int
    least_share: float

    def __str__(self) -> str:
        return (
            f"{self.model!r} was not loaded: {self.provider} took {self.taken} of the {self.total} nodes of its graph, "
            f"a share of {self.taken / max(1, self.total):.0%}, and at least {self.least_share:.0%} are asked for. "
            f"Choose a variant made for this provider, lower models.min_provider_share, "
            f"or set models.allow_fallback = true."
        )

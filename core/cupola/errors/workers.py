"""Errors of execution providers and worker processes."""

from dataclasses import dataclass

from cupola.errors.root import CupolaError


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

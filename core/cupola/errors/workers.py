"""Errors of execution providers and worker processes."""

from dataclasses import dataclass

from cupola.errors.root import CupolaError

_ASK_DOCTOR = "Run `cupola doctor` to see why other providers are unavailable."


@dataclass(eq=False, kw_only=True)
class NoProviderError(CupolaError):
    """No execution provider on this machine can run any variant of the model."""

    model: str
    needs: str
    available: str
    remedy: str = ""

    def __str__(self) -> str:
        return (
            f"No execution provider on this machine can run {self.model!r}: it needs {self.needs}. "
            f"Available: {self.available or 'none'}. {self.remedy or _ASK_DOCTOR}"
        )


@dataclass(eq=False, kw_only=True)
class NoGpuError(NoProviderError):
    """A GPU was selected, but no execution provider on this machine has one."""

    model: str = "any model"
    needs: str = "a GPU"

    def __str__(self) -> str:
        return f"No execution provider on this machine has a GPU. Available: {self.available or 'none'}. {_ASK_DOCTOR}"


@dataclass(eq=False, kw_only=True)
class ProviderInstallError(CupolaError):
    """An execution provider's environment could not be installed. An earlier installation is unchanged."""

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
    """The worker exited unexpectedly. The next request starts a new one."""

    model: str
    detail: str = ""

    def __str__(self) -> str:
        return (
            f"The worker process of {self.model!r} ended unexpectedly ({self.detail}). "
            f"Its running requests failed; the next request starts a new worker."
        )


@dataclass(eq=False, kw_only=True)
class WorkerHungError(WorkerError):
    """The worker completed no step within the time limit and was killed."""

    model: str
    limit_s: float
    detail: str = ""

    def __str__(self) -> str:
        return (
            f"The worker process of {self.model!r} made no progress for {self.limit_s:g} s and was killed. The next "
            f"request starts a new one. If this machine needs longer for a step, raise worker.step_timeout_s."
        )


@dataclass(eq=False, kw_only=True)
class LoadError(WorkerError):
    """A worker could not load the model."""

    model: str

    def __str__(self) -> str:
        return f"{self.model!r} could not be loaded: {self.detail}"


@dataclass(eq=False, kw_only=True)
class FallbackError(LoadError):
    """ONNX Runtime assigned too few nodes of the model's graph to the provider; the CPU would run the rest."""

    detail: str = ""
    provider: str
    taken: int
    total: int
    least_share: float

    def __str__(self) -> str:
        return (
            f"{self.model!r} was not loaded: {self.provider} can run {self.taken} of the {self.total} nodes of its "
            f"graph ({self.taken / max(1, self.total):.0%}), and at least {self.least_share:.0%} are required. "
            f"Choose a variant made for this provider, lower models.min_provider_share, "
            f"or set models.allow_fallback = true."
        )

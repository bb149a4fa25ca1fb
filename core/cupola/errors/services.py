"""Errors of the background service and of external services."""

from dataclasses import dataclass

from cupola.errors.root import CupolaError


@dataclass(eq=False, kw_only=True)
class ServiceError(CupolaError):
    """The background service cannot be reached, or a request to it failed."""

    detail: str


@dataclass(eq=False, kw_only=True)
class ServiceStartError(ServiceError):
    """The background service did not start."""

    log: str

    def __str__(self) -> str:
        return f"The service did not start. {self.detail} See its log at {self.log}"


@dataclass(eq=False, kw_only=True)
class ServiceUnreachableError(ServiceError):
    """The background service does not answer.

    Attributes:
        detail: The reason, such as "Connection refused".
        url: The address of the request.
        log: Path of the service's log file.
    """

    url: str
    log: str

    def __str__(self) -> str:
        return (
            f"The service does not answer at {self.url} ({self.detail}). Run `cupola service status` to see its state. "
            f"Its log is {self.log}"
        )


@dataclass(eq=False, kw_only=True)
class ServiceReplyError(ServiceError):
    """The background service returned an HTTP error. `code` is its OpenAI error code, if it has one."""

    status: int
    code: str = ""


@dataclass(eq=False, kw_only=True)
class ExternalServiceError(CupolaError):
    """An external service failed. `detail` never contains its API key."""

    service: str
    detail: str

    def __str__(self) -> str:
        return f"The external service {self.service!r} failed: {self.detail}"


@dataclass(eq=False, kw_only=True)
class ExternalTimeoutError(ExternalServiceError):
    """The external service sent nothing within the time limit."""


@dataclass(eq=False, kw_only=True)
class ExternalBusyError(ExternalServiceError):
    """The external service is overloaded, or the quota is used up."""

    retry_after_s: int = 1

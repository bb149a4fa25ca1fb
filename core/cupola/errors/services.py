"""Errors of services: the background service of this machine, and external ones whose models are offered here."""

from dataclasses import dataclass

from cupola.errors.root import CupolaError


@dataclass(eq=False, kw_only=True)
class ServiceError(CupolaError):
    """The background service cannot be reached, or cannot do what was asked."""

    detail: str


@dataclass(eq=False, kw_only=True)
class ServiceStartError(ServiceError):
    """The background service did not start."""

    log: str

    def __str__(self) -> str:
        return f"The service did not start. {self.detail} Its log is {self.log}"


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
    """The background service answered with an error. `code` is OpenAI's word for it, if it has one."""

    status: int
    code: str = ""


@dataclass(eq=False, kw_only=True)
class ExternalServiceError(CupolaError):
    """A service elsewhere, whose models are offered here, failed. Its key is never part of the detail."""

    service: str
    detail: str

    def __str__(self) -> str:
        return f"The external service {self.service!r} failed: {self.detail}"


@dataclass(eq=False, kw_only=True)
class ExternalTimeoutError(ExternalServiceError):
    """It said nothing for too long."""


@dataclass(eq=False, kw_only=True)
class ExternalBusyError(ExternalServiceError):
    """It takes no more requests for now, or has no more quota."""

    retry_after_s: int = 1

"""What may go wrong at a service elsewhere.

ExternalServiceError          a service elsewhere, whose models are offered here, failed
├── ExternalTimeoutError      it said nothing for too long
└── ExternalBusyError         it takes no more requests for now

What it refuses about a request is a `RequestError`, as if it were refused here.
"""

from dataclasses import dataclass

from cupola.errors import CupolaError


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

"""What can go wrong with the background service."""

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
class ServiceReplyError(ServiceError):
    """The background service answered with an error. `code` is OpenAI's word for it, if it has one."""

    status: int
    code: str = ""

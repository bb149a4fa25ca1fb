"""Errors as Foundry Local's clients know them. Statuses come from `cupola_server.openai.errors`, as everywhere.

ModelNotFoundError
└── NoMatchError              in the words of the web service (dialects B and C)
ModelNotCachedError
└── NotDownloadedError        in the words that SDKs of dialect A look for
RequestError
└── NotCachedError            in the words of the web service, with its status 400
LoadError
└── LoadFailedError           in the words of the web service
NotReadyError
└── NotStoppableError         nobody said how this service is stopped
"""

from dataclasses import dataclass
from http import HTTPStatus

import msgspec
from msgspec import Struct

from cupola.errors import LoadError, ModelNotCachedError, ModelNotFoundError, RequestError
from cupola_server.openai.errors import ErrorReply, ErrorShape, NotReadyError


@dataclass(eq=False, kw_only=True)
class NoMatchError(ModelNotFoundError):
    """No model goes by this name."""

    def __str__(self) -> str:
        return f"Model not found: No model matching '{self.model}'"


@dataclass(eq=False, kw_only=True)
class NotDownloadedError(ModelNotCachedError):
    """The model is not on this machine. SDKs recognise the first sentence."""

    def __str__(self) -> str:
        return f"No OpenAIService provider found for modelName {self.model}. {super().__str__()}"


@dataclass(eq=False, kw_only=True)
class NotCachedError(RequestError):
    """The model is not on this machine."""

    detail: str = "Model not cached: Model must be downloaded before loading"


@dataclass(eq=False, kw_only=True)
class LoadFailedError(LoadError):
    """A worker could not load the model."""

    def __str__(self) -> str:
        return f"Load failed: {self.detail}"


@dataclass(eq=False, kw_only=True)
class NotStoppableError(NotReadyError):
    """The service runs inside a program that did not say how to stop it."""

    detail: str = "This service cannot be stopped over HTTP; end the program that it is part of."


class ProblemDetails(Struct, kw_only=True, omit_defaults=True):
    """An error of dialect A (RFC 9457). `code` and `param` are OpenAI's words for it."""

    type: str
    title: str
    status: int
    detail: str
    code: str | None = None
    param: str | None = None


def _encode(reply: ErrorReply) -> bytes:
    error = reply.error
    problem = ProblemDetails(
        type="about:blank",
        title=HTTPStatus(reply.status).phrase,
        status=reply.status,
        detail=error.message,
        code=error.code,
        param=error.param,
    )
    return msgspec.json.encode(problem)


PROBLEMS = ErrorShape(ProblemDetails, "application/problem+json", _encode)
"""Dialect A, ASP.NET's way. The other dialects have OpenAI's."""

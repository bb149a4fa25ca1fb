"""Errors with the messages that Foundry Local's clients expect. `cupola_server.openai.errors` maps them to statuses.

ModelNotFoundError
└── NoMatchError              the message of the web service (dialects B and C)
ModelNotCachedError
└── NotDownloadedError        the message that SDKs of dialect A look for
RequestError
└── NotCachedError            the message of the web service, with its status 400
LoadError
└── LoadFailedError           the message of the web service
NotReadyError
└── NotStoppableError         this service cannot be stopped over HTTP
"""

from dataclasses import dataclass
from http import HTTPStatus

import msgspec
from msgspec import Struct

from cupola.errors import LoadError, ModelNotCachedError, ModelNotFoundError, RequestError
from cupola_server.openai.errors import ErrorReply, ErrorShape, NotReadyError


@dataclass(eq=False, kw_only=True)
class NoMatchError(ModelNotFoundError):
    """No model matches the name."""

    def __str__(self) -> str:
        return f"Model not found: No model matching '{self.model}'"


@dataclass(eq=False, kw_only=True)
class NotDownloadedError(ModelNotCachedError):
    """The model is not downloaded. SDKs match the first sentence."""

    def __str__(self) -> str:
        return f"No OpenAIService provider found for modelName {self.model}. {super().__str__()}"


@dataclass(eq=False, kw_only=True)
class NotCachedError(RequestError):
    """The model is not downloaded."""

    detail: str = "Model not cached: Model must be downloaded before loading"


@dataclass(eq=False, kw_only=True)
class LoadFailedError(LoadError):
    """A worker could not load the model."""

    def __str__(self) -> str:
        return f"Load failed: {self.detail}"


@dataclass(eq=False, kw_only=True)
class NotStoppableError(NotReadyError):
    """The service is embedded in a program that does not let front-ends stop it."""

    detail: str = "This service cannot be stopped over HTTP. Stop the program that runs it."


class ProblemDetails(Struct, kw_only=True, omit_defaults=True):
    """Problem details (RFC 9457), the errors of dialect A. `code` and `param` are those of OpenAI's API."""

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
"""The error format of dialect A, as in ASP.NET. The other dialects use OpenAI's."""

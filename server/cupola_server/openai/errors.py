"""The errors of the HTTP API in OpenAI's format. Only this module maps errors to statuses.

CupolaError
├── RequestError
│   ├── InvalidParameterError
│   │   └── FieldError          a field of the body is invalid; has OpenAI's error code
│   ├── BodyError               the body is not a JSON object
│   ├── BodyTooLargeError       the body exceeds the size limit
│   ├── BodyTimeoutError        the body did not arrive in time
│   ├── ApiKeyError             the request has no valid API key
│   ├── HostRefusedError        the Host header names another host
│   ├── OriginRefusedError      a web page of another origin sent the request
│   ├── MediaTypeError          the content type is not JSON
│   ├── PathNotFoundError       the path is unknown
│   ├── MethodNotAllowedError   the path does not support the method
│   └── ResponseNotFoundError   no response with this id is stored
├── ResponseStoreError          responses cannot be stored or read
├── NotReadyError               the service cannot process requests now
└── ServerStoppingError         the service is stopping and aborted the request
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
from msgspec import Struct

from cupola.errors import (
    CacheError,
    CatalogError,
    ContextLengthExceededError,
    CupolaError,
    DiskFullError,
    DownloadError,
    ExternalBusyError,
    ExternalServiceError,
    ExternalTimeoutError,
    InvalidParameterError,
    LoadError,
    MemoryBudgetError,
    ModelBusyError,
    ModelFormatError,
    ModelNotCachedError,
    ModelNotFoundError,
    NoProviderError,
    QueueFullError,
    RequestError,
    WorkerDiedError,
    WorkerError,
    WorkerHungError,
)

Headers = tuple[tuple[bytes, bytes], ...]

_REQUEST = "invalid_request_error"
_SERVER = "server_error"
_PATH = re.compile(r"""(?<![\w./\\:])(?:[A-Za-z]:[\\/]|/|\\\\)(?:[^\s"'<>|:/\\]+[\\/]+)*([^\s"'<>|:/\\]+)""")


@dataclass(eq=False, kw_only=True)
class FieldError(InvalidParameterError):
    """A field of the request is missing, unknown, invalid or not supported."""

    code: str


def unsupported(param: str, reason: str) -> FieldError:
    """Create the error for a valid field that is not supported."""
    return FieldError(param=param, code="unsupported_value", detail=f"'{param}' is not supported: {reason}.")


@dataclass(eq=False, kw_only=True)
class BodyError(RequestError):
    """The body is not a JSON object."""


@dataclass(eq=False, kw_only=True)
class BodyTooLargeError(RequestError):
    """The body exceeds the size limit."""

    detail: str = ""
    limit_bytes: int

    def __str__(self) -> str:
        return f"The request body exceeds the limit of {self.limit_bytes} bytes."


@dataclass(eq=False, kw_only=True)
class BodyTimeoutError(RequestError):
    """The body did not arrive in time."""

    detail: str = "The request body did not arrive in time. Try again."


@dataclass(eq=False, kw_only=True)
class ApiKeyError(RequestError):
    """The request has no API key or an unknown one. The error does not contain the key."""


@dataclass(eq=False, kw_only=True)
class HostRefusedError(RequestError):
    """The Host header names a host that the service does not serve."""

    detail: str = ""
    host: str

    def __str__(self) -> str:
        return (
            f"The service does not accept requests for host {self.host!r}. To allow it, add it to server.allowed_hosts."
        )


@dataclass(eq=False, kw_only=True)
class OriginRefusedError(RequestError):
    """A web page of another origin sent the request."""

    detail: str = ""
    origin: str

    def __str__(self) -> str:
        return (
            f"Web pages of {self.origin} may not use this service. Add the origin to server.cors_origins to allow it."
        )


@dataclass(eq=False, kw_only=True)
class MediaTypeError(RequestError):
    """The content type is not JSON, or the body is compressed."""


@dataclass(eq=False, kw_only=True)
class PathNotFoundError(RequestError):
    """The path is unknown."""

    detail: str = ""
    method: str
    path: str

    def __str__(self) -> str:
        return f"Unknown URL: {self.method} {self.path[:200]}. OpenAI clients need a base URL that ends in /v1."


@dataclass(eq=False, kw_only=True)
class MethodNotAllowedError(RequestError):
    """The path does not support the method. `allow` lists the supported ones, separated by commas."""

    detail: str = ""
    method: str
    path: str
    allow: str

    def __str__(self) -> str:
        return f"{self.method} is not supported for {self.path[:200]}. Supported: {self.allow}."


@dataclass(eq=False, kw_only=True)
class ResponseNotFoundError(RequestError):
    """No response with this id is stored. It may have been deleted or replaced by newer ones."""

    detail: str = ""
    response: str

    def __str__(self) -> str:
        return f"Response with id '{self.response[:80]}' not found."


@dataclass(eq=False, kw_only=True)
class ResponseStoreError(CupolaError):
    """Responses cannot be stored or read."""

    detail: str

    def __str__(self) -> str:
        return (
            f'The store of responses cannot be used: {self.detail}. Send "store": false, '
            f"or set responses.dir to a writable folder."
        )


@dataclass(eq=False, kw_only=True)
class NotReadyError(CupolaError):
    """The service is running but cannot process requests now."""

    detail: str

    def __str__(self) -> str:
        return self.detail


@dataclass(eq=False, kw_only=True)
class ServerStoppingError(CupolaError):
    """The service is stopping and aborted the request."""

    def __str__(self) -> str:
        return "The service is stopping. Try again after it has restarted."


class ErrorObject(Struct):
    """OpenAI's error object.

    Attributes:
        message: A sentence for people.
        type: The class of the error, such as "invalid_request_error".
        param: The field that the error is about.
        code: The error code for programs.
    """

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(Struct):
    """The body of every error response."""

    error: ErrorObject


@dataclass(frozen=True, slots=True)
class ErrorReply:
    """An error to send, as a response or as the last event of a stream that failed."""

    status: int
    error: ErrorObject
    headers: Headers = ()

    def encode(self) -> bytes:
        """Return the JSON body."""
        return msgspec.json.encode(ErrorBody(self.error))


@dataclass(frozen=True, slots=True)
class ErrorShape:
    """The error format of an API.

    Attributes:
        body: The type of the body.
        media_type: The content type.
        encode: Encodes the body.
    """

    body: type[Struct]
    media_type: str
    encode: Callable[[ErrorReply], bytes]


OPENAI_ERRORS = ErrorShape(ErrorBody, "application/json", ErrorReply.encode)


@dataclass(frozen=True, slots=True)
class _Kind:
    """How a class of errors is sent to clients. `message` replaces messages that contain local paths."""

    status: int
    type: str
    code: str | None
    param: str | None = None
    retry: bool = True
    message: str = ""


_DAMAGED = "A file of this model is damaged or in an unsupported format. See the service's log for details."
_NO_CACHE = "The model cache cannot be used. See the service's log for details."
_DISK_FULL = "The service's disk has too little free space for this model."
_INTERNAL = _Kind(
    500, _SERVER, "internal_error", message="The service failed to process this request. See its log for details."
)
_KINDS: dict[type[Exception], _Kind] = {
    RequestError: _Kind(400, _REQUEST, None),
    ContextLengthExceededError: _Kind(400, _REQUEST, "context_length_exceeded", "messages"),
    BodyError: _Kind(400, _REQUEST, "invalid_json"),
    ModelNotFoundError: _Kind(404, _REQUEST, "model_not_found", "model"),
    ModelNotCachedError: _Kind(404, _REQUEST, "model_not_downloaded", "model"),
    ApiKeyError: _Kind(401, _REQUEST, "invalid_api_key"),
    OriginRefusedError: _Kind(403, _REQUEST, "origin_not_allowed"),
    PathNotFoundError: _Kind(404, _REQUEST, "unknown_url"),
    ResponseNotFoundError: _Kind(404, _REQUEST, None),
    MethodNotAllowedError: _Kind(405, _REQUEST, "method_not_allowed"),
    BodyTimeoutError: _Kind(408, _REQUEST, "body_timeout"),
    ModelBusyError: _Kind(409, _REQUEST, "model_busy", "model"),
    BodyTooLargeError: _Kind(413, _REQUEST, "request_too_large"),
    MediaTypeError: _Kind(415, _REQUEST, "unsupported_media_type"),
    HostRefusedError: _Kind(421, _REQUEST, "host_not_allowed"),
    QueueFullError: _Kind(429, "rate_limit_error", "queue_full"),
    LoadError: _Kind(500, _SERVER, "model_load_failed", "model", retry=False),
    ModelFormatError: _Kind(500, _SERVER, "model_damaged", "model", retry=False, message=_DAMAGED),
    ResponseStoreError: _Kind(500, _SERVER, "store_unusable", "store", retry=False),
    CacheError: _Kind(500, _SERVER, "cache_unusable", retry=False, message=_NO_CACHE),
    NoProviderError: _Kind(501, _SERVER, "no_provider", "model", retry=False),
    CatalogError: _Kind(502, _SERVER, "catalog_unreachable"),
    DownloadError: _Kind(502, _SERVER, "download_failed", "model"),
    ExternalBusyError: _Kind(429, "rate_limit_error", "external_service_busy", "model"),
    ExternalServiceError: _Kind(502, _SERVER, "external_service_failed", "model"),
    ExternalTimeoutError: _Kind(504, _SERVER, "external_service_timeout", "model"),
    WorkerError: _Kind(503, _SERVER, "worker_failed"),
    WorkerDiedError: _Kind(503, _SERVER, "worker_died"),
    WorkerHungError: _Kind(503, _SERVER, "worker_hung"),
    MemoryBudgetError: _Kind(503, _SERVER, "memory_budget_exceeded", "model"),
    NotReadyError: _Kind(503, _SERVER, "not_ready"),
    ServerStoppingError: _Kind(503, _SERVER, "server_stopping"),
    DiskFullError: _Kind(507, _SERVER, "disk_full", retry=False, message=_DISK_FULL),
}


def describe(error: Exception) -> ErrorReply:
    """Convert an error for the client, without stack traces and local paths."""
    kind = next((_KINDS[base] for base in type(error).__mro__ if base in _KINDS), _INTERNAL)
    message = kind.message or str(error)
    if kind.status >= 500:
        message = _PATH.sub(r"\1", message)
    param = error.param if isinstance(error, InvalidParameterError) else kind.param
    code = error.code if isinstance(error, FieldError) else kind.code
    return ErrorReply(kind.status, ErrorObject(message, kind.type, param, code), _headers(error, kind))


def _headers(error: Exception, kind: _Kind) -> Headers:
    if isinstance(error, QueueFullError | ExternalBusyError):
        return ((b"retry-after", str(error.retry_after_s).encode()),)
    if isinstance(error, ApiKeyError):
        return ((b"www-authenticate", b"Bearer"),)
    if isinstance(error, MethodNotAllowedError):
        return ((b"allow", error.allow.encode()),)
    if not kind.retry:
        return ((b"x-should-retry", b"false"),)  # OpenAI's clients retry every 5xx otherwise
    return ()

"""Errors as OpenAI's clients know them. Nothing else decides which status an error has.

CupolaError
├── RequestError
│   ├── InvalidParameterError
│   │   └── FieldError          a field of the body is wrong; has OpenAI's code for it
│   ├── BodyError               the body is no JSON object
│   ├── BodyTooLargeError
│   ├── BodyTimeoutError        the body came too slowly
│   ├── ApiKeyError             the request brings no known API key
│   ├── HostRefusedError        the service is called by a name that is not its own
│   ├── OriginRefusedError      a web page asks that may not
│   ├── MediaTypeError          the body is not announced as JSON
│   ├── PathNotFoundError
│   ├── MethodNotAllowedError
│   └── ResponseNotFoundError   no response of that id is stored
├── ResponseStoreError          responses cannot be stored
├── NotReadyError               the service cannot answer requests now
└── ServerStoppingError         the service stops and gives the request up
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
from cupola_server.openai.schema import ErrorBody, ErrorObject

Headers = tuple[tuple[bytes, bytes], ...]

_REQUEST = "invalid_request_error"
_SERVER = "server_error"
_PATH = re.compile(r"""(?<![\w./\\:])(?:[A-Za-z]:[\\/]|/|\\\\)(?:[^\s"'<>|:/\\]+[\\/]+)*([^\s"'<>|:/\\]+)""")


@dataclass(eq=False, kw_only=True)
class FieldError(InvalidParameterError):
    """A field of the body is missing, unknown, of the wrong type, out of range or not supported."""

    code: str


@dataclass(eq=False, kw_only=True)
class BodyError(RequestError):
    """The body is no JSON object."""


@dataclass(eq=False, kw_only=True)
class BodyTooLargeError(RequestError):
    """The body is longer than the service reads."""

    detail: str = ""
    limit_bytes: int

    def __str__(self) -> str:
        return f"The body of a request may have {self.limit_bytes} bytes at most."


@dataclass(eq=False, kw_only=True)
class BodyTimeoutError(RequestError):
    """The body did not arrive in time."""

    detail: str = "The body of the request came too slowly. Send it again."


@dataclass(eq=False, kw_only=True)
class ApiKeyError(RequestError):
    """The request brings no API key, or one that is not known. The error does not hold it."""


@dataclass(eq=False, kw_only=True)
class HostRefusedError(RequestError):
    """The service is called by a name that is not its own."""

    detail: str = ""
    host: str

    def __str__(self) -> str:
        return f"The service does not answer by the name {self.host!r}. The setting server.allowed_hosts can list it."


@dataclass(eq=False, kw_only=True)
class OriginRefusedError(RequestError):
    """A web page of another origin asks."""

    detail: str = ""
    origin: str

    def __str__(self) -> str:
        return f"Web pages of {self.origin} may not use this service. The setting server.cors_origins can list it."


@dataclass(eq=False, kw_only=True)
class MediaTypeError(RequestError):
    """The body is not announced as plain JSON."""


@dataclass(eq=False, kw_only=True)
class PathNotFoundError(RequestError):
    """Nothing answers under this path."""

    detail: str = ""
    method: str
    path: str

    def __str__(self) -> str:
        return f"Unknown URL: {self.method} {self.path[:200]}. OpenAI clients need a base URL that ends in /v1."


@dataclass(eq=False, kw_only=True)
class MethodNotAllowedError(RequestError):
    """The path knows other methods. `allow` lists them, separated by commas."""

    detail: str = ""
    method: str
    path: str
    allow: str

    def __str__(self) -> str:
        return f"{self.method} is not possible on {self.path[:200]}, only {self.allow}."


@dataclass(eq=False, kw_only=True)
class ResponseNotFoundError(RequestError):
    """No response of that id is stored: it never was, or it was deleted, or it made room for newer ones."""

    detail: str = ""
    response: str

    def __str__(self) -> str:
        return f"Response with id '{self.response[:80]}' not found."


@dataclass(eq=False, kw_only=True)
class ResponseStoreError(CupolaError):
    """Responses cannot be stored, or not be read."""

    detail: str

    def __str__(self) -> str:
        return (
            f'The store of responses cannot be used: {self.detail}. Send "store": false, '
            f"or let the setting responses.dir name a folder that the service may write."
        )


@dataclass(eq=False, kw_only=True)
class NotReadyError(CupolaError):
    """The service lives and cannot answer requests now."""

    detail: str

    def __str__(self) -> str:
        return self.detail


@dataclass(eq=False, kw_only=True)
class ServerStoppingError(CupolaError):
    """The service stops and did not wait longer for this request."""

    def __str__(self) -> str:
        return "The service is stopping. Try again when it is back."


@dataclass(frozen=True, slots=True)
class ErrorReply:
    """An error, ready to be sent: as a reply of its own, or as an event of a stream that broke off."""

    status: int
    error: ErrorObject
    headers: Headers = ()

    def encode(self) -> bytes:
        """Return the JSON body."""
        return msgspec.json.encode(ErrorBody(self.error))


@dataclass(frozen=True, slots=True)
class ErrorShape:
    """How a dialect writes errors.

    Attributes:
        body: The Struct of it.
        media_type: What it is announced as.
        encode: Makes the body.
    """

    body: type[Struct]
    media_type: str
    encode: Callable[[ErrorReply], bytes]


OPENAI_ERRORS = ErrorShape(ErrorBody, "application/json", ErrorReply.encode)


@dataclass(frozen=True, slots=True)
class _Kind:
    """How one class of errors looks to a client. `sentence` replaces a message that names files of this machine."""

    status: int
    type: str
    code: str | None
    param: str | None = None
    retry: bool = True
    sentence: str = ""


_DAMAGED = "A file of this model is damaged or of a kind that is not supported. The service's log names it."
_NO_CACHE = "The model cache cannot be used. The service's log says why."
_DISK_FULL = "There is not enough room for this model on the disk of the service."
_INTERNAL = _Kind(500, _SERVER, "internal_error", sentence="The service failed on this request. Its log says why.")
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
    ModelFormatError: _Kind(500, _SERVER, "model_damaged", "model", retry=False, sentence=_DAMAGED),
    ResponseStoreError: _Kind(500, _SERVER, "store_unusable", "store", retry=False),
    CacheError: _Kind(500, _SERVER, "cache_unusable", retry=False, sentence=_NO_CACHE),
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
    DiskFullError: _Kind(507, _SERVER, "disk_full", retry=False, sentence=_DISK_FULL),
}


def describe(error: Exception) -> ErrorReply:
    """Turn any error into what the client is told: never a stack trace, never a path of this machine."""
    kind = next((_KINDS[step] for step in type(error).__mro__ if step in _KINDS), _INTERNAL)
    message = kind.sentence or str(error)
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
        return ((b"x-should-retry", b"false"),)  # read by OpenAI's clients, which try every 5xx again otherwise
    return ()

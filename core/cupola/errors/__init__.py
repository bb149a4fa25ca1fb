"""Every error that Cupola raises on purpose, and nothing else.

CupolaError
├── SettingsError                 a setting is unknown or has the wrong type
├── PluginConflictError           two plugins contribute the same name
├── PluginsFailedError            --strict-plugins, and a plugin failed
├── ModelNotFoundError            no catalog knows that name
├── ModelNotCachedError           known, but its files are not here
├── ModelBusyError                unload refused: turns are running
├── CatalogError                  a catalog source cannot list its models
├── NoProviderError               no execution provider can run the model
│   └── NoGpuError
├── ProviderInstallError          the environment of an execution provider could not be made
├── DownloadError                 the files could not be fetched; a retry may help
│   └── DigestMismatchError       what arrived is not what was announced
├── CacheError                    the cache folder cannot be read or written
│   └── DiskFullError             not enough room for the model
├── ModelFormatError              a model file is damaged or of a kind not supported
├── RequestError                  the request cannot be honoured as it stands
│   ├── InvalidParameterError     one field is out of range or not supported
│   └── ContextLengthExceededError
├── QueueFullError                too many turns wait for this model
├── MemoryBudgetError             other models use the memory, and none of them can go
├── ServiceError                  the background service cannot be reached, or cannot do what was asked
│   ├── ServiceStartError         it did not start
│   ├── ServiceUnreachableError   it does not answer
│   └── ServiceReplyError         it answered with an error
├── ExternalServiceError          a service elsewhere failed (cupola.errors)
└── WorkerError                   a worker process failed
    ├── WorkerDiedError           it ended while it was needed
    ├── WorkerHungError           it was ended: no step within the limit
    └── LoadError                 it could not load the model
        └── FallbackError         the provider would run only a part of it

Errors are dataclasses: their fields survive the trip from a worker process (`to_wire`, `from_wire`), and `str()` is
the sentence for the user, which says what to do next.
"""

from cupola.errors.models import (
    CacheError,
    CatalogError,
    DigestMismatchError,
    DiskFullError,
    DownloadError,
    ModelBusyError,
    ModelFormatError,
    ModelNotCachedError,
    ModelNotFoundError,
)
from cupola.errors.requests import (
    ContextLengthExceededError,
    InvalidParameterError,
    MemoryBudgetError,
    QueueFullError,
    RequestError,
)
from cupola.errors.root import CupolaError, WireError, from_wire, to_wire
from cupola.errors.services import (
    ExternalBusyError,
    ExternalServiceError,
    ExternalTimeoutError,
    ServiceError,
    ServiceReplyError,
    ServiceStartError,
    ServiceUnreachableError,
)
from cupola.errors.startup import PluginConflictError, PluginsFailedError, SettingsError
from cupola.errors.workers import (
    FallbackError,
    LoadError,
    NoGpuError,
    NoProviderError,
    ProviderInstallError,
    WorkerDiedError,
    WorkerError,
    WorkerHungError,
)

__all__ = [
    "CacheError",
    "CatalogError",
    "ContextLengthExceededError",
    "CupolaError",
    "DigestMismatchError",
    "DiskFullError",
    "DownloadError",
    "ExternalBusyError",
    "ExternalServiceError",
    "ExternalTimeoutError",
    "FallbackError",
    "InvalidParameterError",
    "LoadError",
    "MemoryBudgetError",
    "ModelBusyError",
    "ModelFormatError",
    "ModelNotCachedError",
    "ModelNotFoundError",
    "NoGpuError",
    "NoProviderError",
    "PluginConflictError",
    "PluginsFailedError",
    "ProviderInstallError",
    "QueueFullError",
    "RequestError",
    "ServiceError",
    "ServiceReplyError",
    "ServiceStartError",
    "ServiceUnreachableError",
    "SettingsError",
    "WireError",
    "WorkerDiedError",
    "WorkerError",
    "WorkerHungError",
    "from_wire",
    "to_wire",
]

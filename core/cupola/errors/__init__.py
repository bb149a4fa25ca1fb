"""Every error that Cupola raises on purpose.

CupolaError
├── SettingsError                 a setting is unknown or invalid
├── PluginConflictError           two plugins contribute the same name
├── PluginsFailedError            a plugin failed in strict mode
├── ModelNotFoundError            no catalog lists the model
├── ModelNotCachedError           the model is listed but not downloaded
├── ModelBusyError                the model cannot be unloaded while turns run
├── CatalogError                  a catalog source cannot list its models
├── NoProviderError               no execution provider can run the model
│   └── NoGpuError                no execution provider has a GPU
├── ProviderInstallError          an execution provider's environment could not be installed
├── DownloadError                 files could not be downloaded; a retry may help
│   └── DigestMismatchError       a downloaded file does not match its digest
├── CacheError                    the cache folder cannot be read or written
│   └── DiskFullError             too little free disk space
├── ModelFormatError              a model file is damaged or in an unsupported format
├── RequestError                  the request is invalid or not supported
│   ├── InvalidParameterError     one field is invalid or not supported
│   └── ContextLengthExceededError
├── QueueFullError                too many turns wait for this model
├── MemoryBudgetError             other loaded models use the memory budget
├── ServiceError                  the background service cannot be reached, or a request to it failed
│   ├── ServiceStartError         the background service did not start
│   ├── ServiceUnreachableError   the background service does not respond
│   └── ServiceReplyError         the background service returned an error
├── ExternalServiceError          an external service failed
│   ├── ExternalTimeoutError      it did not respond in time
│   └── ExternalBusyError         it is overloaded or out of quota
└── WorkerError                   a worker process failed
    ├── WorkerDiedError           it exited unexpectedly
    ├── WorkerHungError           it completed no step in time and was killed
    └── LoadError                 it could not load the model
        └── FallbackError         the provider can run only part of the model

Errors are dataclasses whose fields survive the transfer between processes (`to_wire`, `from_wire`). `str()` returns a
message for the user: what failed, why, and what to do next.
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

"""The interfaces that plugins implement (ABCs) and the objects they receive (Protocols).

The docstring of an ABC shows the smallest complete implementation and says who calls each method, where, and what it
may raise. Methods added later have a default implementation. Plugins import them from the public pages, such as
`cupola.provider`.
"""

from cupola.contracts.cache import CacheStore, Staging, Verification
from cupola.contracts.catalog import CatalogSource, Downloader, ImportOptions
from cupola.contracts.converter import ModelConverter
from cupola.contracts.events import (
    DownloadEnded,
    Event,
    ModelLoaded,
    ModelUnloaded,
    RequestEnded,
    RequestStarted,
    TurnEnded,
)
from cupola.contracts.frontend import (
    ApiFrontend,
    ASGIApp,
    CliCommand,
    EngineView,
    Generation,
    Receive,
    Scope,
    Send,
    ServiceView,
)
from cupola.contracts.models import (
    CachedModel,
    DeviceType,
    DownloadStatus,
    ModelInfo,
    ModelStatus,
    Progress,
    ProgressEvent,
    PromptTemplate,
    RemoteFile,
    ResidentStatus,
)
from cupola.contracts.provider import (
    Device,
    EmbeddingSession,
    ExecutionProvider,
    Limits,
    Logprob,
    ModelFiles,
    Placement,
    ProviderReport,
    Session,
    TextStream,
    TokenEvent,
    Tokenizer,
    Turn,
)

__all__ = [
    "ASGIApp",
    "ApiFrontend",
    "CacheStore",
    "CachedModel",
    "CatalogSource",
    "CliCommand",
    "Device",
    "DeviceType",
    "DownloadEnded",
    "DownloadStatus",
    "Downloader",
    "EmbeddingSession",
    "EngineView",
    "Event",
    "ExecutionProvider",
    "Generation",
    "ImportOptions",
    "Limits",
    "Logprob",
    "ModelConverter",
    "ModelFiles",
    "ModelInfo",
    "ModelLoaded",
    "ModelStatus",
    "ModelUnloaded",
    "Placement",
    "Progress",
    "ProgressEvent",
    "PromptTemplate",
    "ProviderReport",
    "Receive",
    "RemoteFile",
    "RequestEnded",
    "RequestStarted",
    "ResidentStatus",
    "Scope",
    "Send",
    "ServiceView",
    "Session",
    "Staging",
    "TextStream",
    "TokenEvent",
    "Tokenizer",
    "Turn",
    "TurnEnded",
    "Verification",
]

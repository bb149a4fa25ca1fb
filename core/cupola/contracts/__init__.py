"""What a plugin implements (ABCs) and what it is handed (Protocols).

An ABC's docstring holds the smallest complete implementation and says who calls each method, where, and what it may
raise. Abstract methods stay few; a method that grows later comes with a default.
"""

from cupola.contracts.cache import CacheStore, Staging, Verification
from cupola.contracts.catalog import CatalogSource, Downloader, ImportWishes
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
    "ImportWishes",
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
    "Session",
    "Staging",
    "TextStream",
    "TokenEvent",
    "Tokenizer",
    "Turn",
    "TurnEnded",
    "Verification",
]

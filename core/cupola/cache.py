"""The import page of cache authors: implement `CacheStore` and its `Staging`.

Return the store from a `cache_stores` hook. Errors to raise are in `cupola.errors`; the conformance suite is
`cupola.testing.CacheStoreSuite`.
"""

from cupola.contracts import (
    CachedModel,
    CacheStore,
    ModelInfo,
    Progress,
    ProgressEvent,
    PromptTemplate,
    Staging,
    Verification,
)
from cupola.hookspecs import hookimpl
from cupola.settings import Settings

__all__ = [
    "CacheStore",
    "CachedModel",
    "ModelInfo",
    "Progress",
    "ProgressEvent",
    "PromptTemplate",
    "Settings",
    "Staging",
    "Verification",
    "hookimpl",
]

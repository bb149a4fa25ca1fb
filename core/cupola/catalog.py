"""The import page of catalog authors: implement `CatalogSource`, or `ModelConverter` for another file format.

Return them from `catalog_sources` and `model_converters` hooks. Errors to raise are in `cupola.errors`; the conformance
suite is `cupola.testing.CatalogSourceSuite`.
"""

from cupola.contracts import (
    CachedModel,
    CatalogSource,
    Device,
    DeviceType,
    Downloader,
    ImportOptions,
    ModelConverter,
    ModelInfo,
    Progress,
    ProgressEvent,
    PromptTemplate,
    RemoteFile,
    Staging,
)
from cupola.hookspecs import hookimpl
from cupola.settings import Settings

__all__ = [
    "CachedModel",
    "CatalogSource",
    "Device",
    "DeviceType",
    "Downloader",
    "ImportOptions",
    "ModelConverter",
    "ModelInfo",
    "Progress",
    "ProgressEvent",
    "PromptTemplate",
    "RemoteFile",
    "Settings",
    "Staging",
    "hookimpl",
]

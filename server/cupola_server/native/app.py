"""The routes of Cupola's own front-end."""

from cupola.client.api import (
    Cancelled,
    CancelRequest,
    CatalogModels,
    Download,
    DownloadRequest,
    Downloads,
    LoadedModel,
    LoadedModels,
    LoadRequest,
    Unloaded,
    UnloadRequest,
)
from cupola.frontend import ASGIApp, EngineView
from cupola_server.native.downloads import DownloadEndpoints
from cupola_server.native.models import ModelEndpoints
from cupola_server.openapi import Api, Operation

_LOADS_A_MODEL = (404, 409, 500, 501, 502, 503, 507)
_DOWNLOADS_A_MODEL = (404, 500, 502, 503, 507)


def build_app(engine: EngineView) -> ASGIApp:
    """Create the ASGI application of the front-end."""
    return Api([*_model_operations(ModelEndpoints(engine)), *_download_operations(DownloadEndpoints(engine))])


def _model_operations(models: ModelEndpoints) -> tuple[Operation, ...]:
    return (
        Operation(
            method="GET",
            path="/cupola/models",
            handler=models.catalog,
            summary="List the models of all catalogs and the cache",
            reply=CatalogModels,
        ),
        Operation(
            method="GET", path="/cupola/ps", handler=models.list, summary="List the loaded models", reply=LoadedModels
        ),
        Operation(
            method="POST",
            path="/cupola/load",
            handler=models.load,
            summary="Load a model",
            request=LoadRequest,
            reply=LoadedModel,
            errors=_LOADS_A_MODEL,
        ),
        Operation(
            method="POST",
            path="/cupola/unload",
            handler=models.unload,
            summary="Unload a model",
            request=UnloadRequest,
            reply=Unloaded,
            errors=(404, 409),
        ),
    )


def _download_operations(downloads: DownloadEndpoints) -> tuple[Operation, ...]:
    return (
        Operation(
            method="POST",
            path="/cupola/download",
            handler=downloads.download,
            summary="Download a model and wait for it",
            request=DownloadRequest,
            reply=Download,
            events=Download,
            errors=_DOWNLOADS_A_MODEL,
        ),
        Operation(
            method="GET",
            path="/cupola/downloads",
            handler=downloads.list,
            summary="List downloads",
            reply=Downloads,
        ),
        Operation(
            method="POST",
            path="/cupola/downloads",
            handler=downloads.start,
            summary="Start a download in the background",
            request=DownloadRequest,
            reply=Download,
            errors=_DOWNLOADS_A_MODEL,
        ),
        Operation(
            method="POST",
            path="/cupola/downloads/cancel",
            handler=downloads.cancel,
            summary="Cancel a download",
            request=CancelRequest,
            reply=Cancelled,
        ),
    )

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
from cupola_server.native.downloading import Downloading
from cupola_server.native.residents import Residents
from cupola_server.openapi import Api, Operation

_LOADS_A_MODEL = (404, 409, 500, 501, 502, 503, 507)
_FETCHES_A_MODEL = (404, 500, 502, 503, 507)


def build_app(engine: EngineView) -> ASGIApp:
    """Build the ASGI application of the front-end over an engine."""
    return Api([*_operations_of(Residents(engine)), *_operations_on(Downloading(engine))])


def _operations_of(residents: Residents) -> tuple[Operation, ...]:
    return (
        Operation(
            method="GET",
            path="/cupola/models",
            handler=residents.catalog,
            summary="List every model of the catalogs and the cache",
            reply=CatalogModels,
        ),
        Operation(
            method="GET", path="/cupola/ps", handler=residents.list, summary="List what is loaded", reply=LoadedModels
        ),
        Operation(
            method="POST",
            path="/cupola/load",
            handler=residents.load,
            summary="Load a model",
            request=LoadRequest,
            reply=LoadedModel,
            errors=_LOADS_A_MODEL,
        ),
        Operation(
            method="POST",
            path="/cupola/unload",
            handler=residents.unload,
            summary="Unload a model",
            request=UnloadRequest,
            reply=Unloaded,
            errors=(404, 409),
        ),
    )


def _operations_on(downloading: Downloading) -> tuple[Operation, ...]:
    return (
        Operation(
            method="POST",
            path="/cupola/download",
            handler=downloading.bring,
            summary="Download a model and wait for it",
            request=DownloadRequest,
            reply=Download,
            events=Download,
            errors=_FETCHES_A_MODEL,
        ),
        Operation(
            method="GET",
            path="/cupola/downloads",
            handler=downloading.list,
            summary="List downloads",
            reply=Downloads,
        ),
        Operation(
            method="POST",
            path="/cupola/downloads",
            handler=downloading.start,
            summary="Begin to download a model",
            request=DownloadRequest,
            reply=Download,
            errors=_FETCHES_A_MODEL,
        ),
        Operation(
            method="POST",
            path="/cupola/downloads/cancel",
            handler=downloading.cancel,
            summary="End a download",
            request=CancelRequest,
            reply=Cancelled,
        ),
    )

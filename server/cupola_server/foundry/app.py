"""The routes of Foundry Local's dialects."""

from collections.abc import Iterator

from cupola.frontend import ASGIApp, EngineView, ServiceView, Settings
from cupola_server.foundry.downloads import Downloads
from cupola_server.foundry.errors import PROBLEMS
from cupola_server.foundry.models import CatalogListing, Residents
from cupola_server.foundry.schema import (
    CatalogModel,
    DownloadRequest,
    Loaded,
    LoadQuery,
    RegisterRequest,
    ServiceStatus,
    ShuttingDown,
    TokenCount,
    Unloaded,
    UnloadQuery,
    WebServiceStatus,
)
from cupola_server.foundry.service import ExternalRegistration, Status, TokenCounter
from cupola_server.foundry.web_service import LOCAL_PREFIX, LocalModels, WebServiceModels, openai_operations
from cupola_server.openai.app import RUNS_A_MODEL
from cupola_server.openai.exchange import Handler
from cupola_server.openai.schema import ChatRequest
from cupola_server.openapi import Api, Operation

_EMPTY = "text/plain"


def build_app(engine: EngineView, settings: Settings, service: ServiceView | None) -> ASGIApp:
    """Build the ASGI application of the front-end over an engine."""
    status = Status(engine, service)
    local = LocalModels(engine)
    return Api(
        [
            *_service(engine, status),
            *_residents(Residents(engine, settings)),
            *_web_service(status),
            *_web_service_models(WebServiceModels(engine), ""),
            *_web_service_models(WebServiceModels(local), LOCAL_PREFIX),
            *openai_operations(local, settings),
        ]
    )


def _service(engine: EngineView, status: Status) -> Iterator[Operation]:
    catalog = CatalogListing(engine)
    yield _get(
        "/openai/status", status.show, "Show the addresses of the service and the model folder", reply=ServiceStatus
    )
    yield _get("/openai/models", catalog.ready, "List the models that need no download", reply=list[str])
    yield _get("/foundry/list", catalog.catalog, "List the models that this machine can run", reply=list[CatalogModel])
    yield Operation(
        method="POST",
        path="/openai/download",
        handler=Downloads(engine).download,
        summary="Download a model",
        request=DownloadRequest,
        reply=_EMPTY,
        shape=PROBLEMS,
    )
    yield Operation(
        method="POST",
        path="/openai/register",
        handler=ExternalRegistration(engine).register,
        summary="Register an external model",
        request=RegisterRequest,
        reply=_EMPTY,
        shape=PROBLEMS,
    )
    yield Operation(
        method="POST",
        path="/v1/chat/completions/tokenizer/encode/count",
        handler=TokenCounter(engine).count,
        summary="Count the tokens of a chat",
        request=ChatRequest,
        reply=TokenCount,
        errors=RUNS_A_MODEL,
    )


def _residents(residents: Residents) -> Iterator[Operation]:
    yield _get("/openai/loadedmodels", residents.list, "List the loaded models", reply=list[str])
    yield _change(
        "/openai/load/{name:path}", residents.load, "Load a model", query=LoadQuery, errors=(400, *RUNS_A_MODEL)
    )
    yield _change(
        "/openai/unload/{name:path}", residents.unload, "Unload a model", query=UnloadQuery, errors=(404, 409)
    )
    yield _change("/openai/unloadall", residents.unload_all, "Unload all models", query=UnloadQuery, errors=(409,))
    yield _get("/openai/getgpudevice", residents.gpu, "Get the index of the selected GPU", reply=int)
    yield _change("/openai/setgpudevice/{device}", residents.choose_gpu, "Select the GPU", errors=(400, 501))


def _web_service(status: Status) -> Iterator[Operation]:
    yield Operation(
        method="GET",
        path="/status",
        handler=status.show_web_service,
        summary="Show the addresses of the service",
        reply=WebServiceStatus,
    )
    yield Operation(
        method="POST", path="/shutdown", handler=status.shut_down, summary="Stop the service", reply=ShuttingDown
    )


def _web_service_models(models: WebServiceModels, prefix: str) -> Iterator[Operation]:
    yield Operation(
        method="GET",
        path=f"{prefix}/models/loaded",
        handler=models.list,
        summary="List the loaded models",
        reply=list[str],
    )
    yield Operation(
        method="GET",
        path=f"{prefix}/models/load/{{name:path}}",
        handler=models.load,
        summary="Load a model",
        reply=Loaded,
        errors=(400, *RUNS_A_MODEL),
        is_safe=False,
    )
    yield Operation(
        method="GET",
        path=f"{prefix}/models/unload/{{name:path}}",
        handler=models.unload,
        summary="Unload a model",
        reply=Unloaded,
        errors=(404, 409),
        is_safe=False,
    )


def _get(path: str, handler: Handler, summary: str, *, reply: object) -> Operation:
    return Operation(method="GET", path=path, handler=handler, summary=summary, reply=reply, shape=PROBLEMS)


def _change(
    path: str, handler: Handler, summary: str, *, query: object = None, errors: tuple[int, ...] = ()
) -> Operation:
    """Describe a GET of dialect A that changes state and returns an empty body."""
    return Operation(
        method="GET",
        path=path,
        handler=handler,
        summary=summary,
        query=query,
        reply=_EMPTY,
        errors=errors,
        shape=PROBLEMS,
        is_safe=False,
    )

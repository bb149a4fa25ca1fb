"""GET /openai/status, GET /status and POST /shutdown: the service about itself."""

import os

import msgspec

from cupola.frontend import EngineView, ServiceView
from cupola_server.foundry.errors import NotStoppableError
from cupola_server.foundry.schema import ServiceStatus, ShuttingDown, WebServiceStatus
from cupola_server.openai.exchange import Exchange

_UNIX = "unix:"


class Status:
    """Tells where the service and its models are, and shuts it down."""

    def __init__(self, engine: EngineView, service: ServiceView | None) -> None:
        self._engine, self._service = engine, service

    async def show(self, exchange: Exchange) -> None:
        """Tell it in dialect A."""
        providers = dict.fromkeys(device.provider for device in self._engine.devices())
        status = ServiceStatus(
            endpoints=self._endpoints(),
            model_dir_path=str(self._engine.cache_location),
            pipe_name=next((url.removeprefix(_UNIX) for url in self._urls() if url.startswith(_UNIX)), ""),
            auto_registration_status=f"Valid EPs: {', '.join(providers) or 'none'}",
        )
        await exchange.reply(200, msgspec.json.encode(status))

    async def show_web_service(self, exchange: Exchange) -> None:
        """Tell it in the dialects B and C."""
        location = str(self._engine.cache_location)
        status = WebServiceStatus(
            endpoints=self._endpoints(), model_cache_path=location, model_dir_path=location, pid=os.getpid()
        )
        await exchange.reply(200, msgspec.json.encode(status))

    async def shut_down(self, exchange: Exchange) -> None:
        """Stop the service in order: this reply and running answers still go out."""
        if self._service is None:
            raise NotStoppableError
        self._service.stop()
        await exchange.reply(200, msgspec.json.encode(ShuttingDown()))

    def _urls(self) -> tuple[str, ...]:
        return () if self._service is None else tuple(self._service.urls)

    def _endpoints(self) -> tuple[str, ...]:
        return tuple(url for url in self._urls() if not url.startswith(_UNIX))

"""GET /metrics."""

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from cupola.frontend import ApiFrontend, ASGIApp, EngineView
from cupola_server.metrics.meters import Meters
from cupola_server.openai.exchange import Exchange
from cupola_server.openapi import Api, Operation


class MetricsFrontend(ApiFrontend):
    """Shows the meters in Prometheus' text format."""

    name = "metrics"
    prefixes = ("/metrics",)

    def __init__(self, meters: Meters) -> None:
        self._meters = meters

    def app(self, engine: EngineView) -> ASGIApp:
        """Build the ASGI application."""
        self._meters.watch(engine)
        summary = "Show the meters, in Prometheus' text format"
        return Api([Operation(method="GET", path="/metrics", handler=self._show, summary=summary, reply="text/plain")])

    async def _show(self, exchange: Exchange) -> None:
        headers = ((b"content-type", CONTENT_TYPE_LATEST.encode()),)
        await exchange.reply(200, generate_latest(self._meters.registry), headers)

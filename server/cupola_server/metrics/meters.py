"""The metrics, how events change them, and GET /metrics. Labels never contain text of users."""

from collections.abc import Iterable
from functools import singledispatchmethod

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from cupola.events import DownloadEnded, Event, ModelLoaded, ModelUnloaded, RequestEnded, RequestStarted, TurnEnded
from cupola.frontend import ApiFrontend, ASGIApp, EngineView, ResidentStatus
from cupola_server.openai.exchange import Exchange
from cupola_server.openapi import Api, Operation

_MODEL = ("model", "provider")
_TTFT_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_TOKEN_S = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.08, 0.15, 0.3, 0.6, 1.5)
_LOAD_S = (0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 180.0, 600.0)


class Meters:
    """The metrics of one service.

    Attributes:
        registry: The registry that `prometheus_client` exports.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._failed: set[str] = set()
        ProcessCollector(registry=self.registry)
        self._add_requests()
        self._add_turns()
        self._add_models()

    def watch(self, engine: EngineView) -> None:
        """Read the loaded models from the engine whenever the metrics are read."""
        self.registry.register(_Residents(engine))

    @singledispatchmethod
    def record(self, event: Event) -> None:
        """Record an event; unknown events are ignored."""

    @record.register
    def _(self, event: RequestStarted) -> None:  # noqa: ARG002 - its type says it all
        self._in_flight.inc()

    @record.register
    def _(self, event: RequestEnded) -> None:
        self._in_flight.dec()
        self._requests.labels(event.method, event.route, str(event.status)).inc()
        self._request_s.labels(event.route).observe(event.total_s)

    @record.register
    def _(self, event: TurnEnded) -> None:
        labels = (event.model, event.provider)
        self._turns.labels(*labels, event.reason or "failed").inc()
        if event.first_token_s is not None:
            self._ttft_s.labels(*labels).observe(event.first_token_s)
        if event.usage is None:
            return
        self._prompt_tokens.labels(*labels).inc(event.usage.prompt_tokens)
        self._cached_tokens.labels(*labels).inc(event.usage.cached_tokens)
        self._completion_tokens.labels(*labels).inc(event.usage.completion_tokens)
        if event.first_token_s is not None and event.usage.completion_tokens > 1:
            gap_s = (event.total_s - event.first_token_s) / (event.usage.completion_tokens - 1)
            self._token_s.labels(*labels).observe(gap_s)

    @record.register
    def _(self, event: ModelLoaded) -> None:
        labels = (event.model, event.provider)
        self._loads.labels(*labels).inc()
        self._load_s.labels(*labels).observe(event.load_s)
        if event.model in self._failed:
            self._failed.discard(event.model)
            self._restarts.labels(*labels).inc()

    @record.register
    def _(self, event: ModelUnloaded) -> None:
        self._unloads.labels(event.model, event.provider, event.reason).inc()
        if event.reason == "evicted":
            self._evictions.labels(event.model, event.provider).inc()
        if event.reason == "failed":
            self._failed.add(event.model)
            self._failures.labels(event.model, event.provider).inc()

    @record.register
    def _(self, event: DownloadEnded) -> None:
        self._downloads.labels(event.model, "ok" if event.ok else "failed").inc()
        self._download_s.labels(event.model).inc(event.total_s)
        if event.ok:
            self._download_bytes.labels(event.model).inc(event.size_bytes)

    def _add_requests(self) -> None:
        self._requests = self._counter("http_requests", "Completed requests.", ("method", "route", "status"))
        self._in_flight = Gauge("cupola_http_requests_in_flight", "Requests in progress.", registry=self.registry)
        self._request_s = self._histogram("http_request_seconds", "Duration of requests.", ("route",), _TTFT_S)

    def _add_turns(self) -> None:
        self._turns = self._counter("turns", "Turns by finish reason.", (*_MODEL, "reason"))
        self._ttft_s = self._histogram(
            "time_to_first_token_seconds", "Time from the arrival of a request to its first token.", _MODEL, _TTFT_S
        )
        self._token_s = self._histogram(
            "inter_token_seconds", "Mean time between the tokens of a turn, after the first one.", _MODEL, _TOKEN_S
        )
        self._prompt_tokens = self._counter("prompt_tokens", "Prompt tokens.", _MODEL)
        self._cached_tokens = self._counter("cached_tokens", "Prompt tokens found in the KV cache.", _MODEL)
        self._completion_tokens = self._counter("completion_tokens", "Generated tokens.", _MODEL)

    def _add_models(self) -> None:
        self._loads = self._counter("model_loads", "Model loads.", _MODEL)
        self._load_s = self._histogram("model_load_seconds", "Time to load a model.", _MODEL, _LOAD_S)
        self._unloads = self._counter("model_unloads", "Model unloads, including failed loads.", (*_MODEL, "reason"))
        self._evictions = self._counter("model_evictions", "Models unloaded to make room for others.", _MODEL)
        self._failures = self._counter("worker_failures", "Worker failures, during loading or later.", _MODEL)
        self._restarts = self._counter("worker_restarts", "Workers started after a failure.", _MODEL)
        self._downloads = self._counter("downloads", "Downloads by outcome.", ("model", "outcome"))
        self._download_bytes = self._counter("download_bytes", "Bytes of completed downloads.", ("model",))
        self._download_s = self._counter("download_seconds", "Time spent on downloads.", ("model",))

    def _counter(self, name: str, text: str, labels: tuple[str, ...]) -> Counter:
        return Counter(f"cupola_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, labels: tuple[str, ...], buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"cupola_{name}", text, labels, registry=self.registry, buckets=buckets)


class _Residents(Collector):
    """Gauges of the loaded models."""

    def __init__(self, engine: EngineView) -> None:
        self._engine = engine

    def collect(self) -> Iterable[GaugeMetricFamily]:
        residents = self._engine.residents()
        yield _gauge(
            "cupola_slots", "Maximum number of turns per step.", residents, [r.report.capacity for r in residents]
        )
        active = [min(r.turns, r.report.capacity) for r in residents]
        yield _gauge("cupola_turns_active", "Running turns.", residents, active)
        waiting = [max(0, r.turns - r.report.capacity) for r in residents]
        yield _gauge("cupola_turns_waiting", "Turns waiting for a slot.", residents, waiting)
        memory = [r.memory_bytes for r in residents]
        yield _gauge("cupola_model_memory_bytes", "Memory of a model's worker process.", residents, memory)
        fallbacks = [int(r.report.fallback) for r in residents]
        text = "1 if a model's provider runs a smaller share of its graph than required."
        yield _gauge("cupola_model_fallback", text, residents, fallbacks)
        yield _nodes(residents)


class MetricsFrontend(ApiFrontend):
    """Serves the metrics in Prometheus' text format."""

    name = "metrics"
    prefixes = ("/metrics",)

    def __init__(self, meters: Meters) -> None:
        self._meters = meters

    def app(self, engine: EngineView) -> ASGIApp:
        """Create the ASGI application."""
        self._meters.watch(engine)
        summary = "Get the metrics in Prometheus' text format"
        return Api([Operation(method="GET", path="/metrics", handler=self._show, summary=summary, reply="text/plain")])

    async def _show(self, exchange: Exchange) -> None:
        headers = ((b"content-type", CONTENT_TYPE_LATEST.encode()),)
        await exchange.reply(200, generate_latest(self._meters.registry), headers)


def _nodes(residents: Iterable[ResidentStatus]) -> GaugeMetricFamily:
    """Count the nodes of each model by the ONNX Runtime execution provider that runs them."""
    text = "Nodes of a model's graph, by who computes them."
    family = GaugeMetricFamily("cupola_model_nodes", text, labels=(*_MODEL, "computed_by"))
    for resident in residents:
        for taker, count in resident.report.nodes.items():
            family.add_metric((resident.info.id, resident.report.provider, taker), count)
    return family


def _gauge(name: str, text: str, residents: Iterable[ResidentStatus], values: Iterable[int]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=_MODEL)
    for resident, value in zip(residents, values, strict=True):
        family.add_metric((resident.info.id, resident.report.provider), value)
    return family

"""The meters, and what each event changes about them. Labels are models, providers, routes: never what a user wrote."""

from collections.abc import Iterable
from functools import singledispatchmethod

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from cupola.events import DownloadEnded, Event, ModelLoaded, ModelUnloaded, RequestEnded, RequestStarted, TurnEnded
from cupola.frontend import EngineView, ResidentStatus

_MODEL = ("model", "provider")
_TTFT_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_TOKEN_S = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.08, 0.15, 0.3, 0.6, 1.5)
_LOAD_S = (0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 180.0, 600.0)


class Meters:
    """All meters of one service.

    Attributes:
        registry: What `prometheus_client` writes out.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._failed: set[str] = set()
        ProcessCollector(registry=self.registry)
        self._add_requests()
        self._add_turns()
        self._add_models()

    def watch(self, engine: EngineView) -> None:
        """Read what is loaded and busy from the engine, whenever the meters are read."""
        self.registry.register(_Residents(engine))

    @singledispatchmethod
    def note(self, event: Event) -> None:
        """Count an event; those of later versions are skipped."""

    @note.register
    def _(self, event: RequestStarted) -> None:  # noqa: ARG002 - its type says it all
        self._in_flight.inc()

    @note.register
    def _(self, event: RequestEnded) -> None:
        self._in_flight.dec()
        self._requests.labels(event.method, event.route, str(event.status)).inc()
        self._request_s.labels(event.route).observe(event.total_s)

    @note.register
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

    @note.register
    def _(self, event: ModelLoaded) -> None:
        labels = (event.model, event.provider)
        self._loads.labels(*labels).inc()
        self._load_s.labels(*labels).observe(event.load_s)
        if event.model in self._failed:
            self._failed.discard(event.model)
            self._restarts.labels(*labels).inc()

    @note.register
    def _(self, event: ModelUnloaded) -> None:
        self._unloads.labels(event.model, event.provider, event.reason).inc()
        if event.reason == "evicted":
            self._evictions.labels(event.model, event.provider).inc()
        if event.reason == "failed":
            self._failed.add(event.model)
            self._failures.labels(event.model, event.provider).inc()

    @note.register
    def _(self, event: DownloadEnded) -> None:
        self._downloads.labels(event.model, "ok" if event.ok else "failed").inc()
        self._download_s.labels(event.model).inc(event.total_s)
        if event.ok:
            self._download_bytes.labels(event.model).inc(event.size_bytes)

    def _add_requests(self) -> None:
        self._requests = self._counter("http_requests", "Requests answered.", ("method", "route", "status"))
        self._in_flight = Gauge("cupola_http_requests_in_flight", "Requests being answered.", registry=self.registry)
        self._request_s = self._histogram("http_request_seconds", "Time until the reply ended.", ("route",), _TTFT_S)

    def _add_turns(self) -> None:
        self._turns = self._counter("turns", "Turns by how they ended.", (*_MODEL, "reason"))
        self._ttft_s = self._histogram(
            "time_to_first_token_seconds", "From the arrival of a request to its first text.", _MODEL, _TTFT_S
        )
        self._token_s = self._histogram(
            "inter_token_seconds", "Mean time between the tokens of a turn, after the first.", _MODEL, _TOKEN_S
        )
        self._prompt_tokens = self._counter("prompt_tokens", "Tokens of prompts.", _MODEL)
        self._cached_tokens = self._counter("cached_tokens", "Tokens of prompts found in the KV cache.", _MODEL)
        self._completion_tokens = self._counter("completion_tokens", "Tokens of answers.", _MODEL)

    def _add_models(self) -> None:
        self._loads = self._counter("model_loads", "Times a model was loaded.", _MODEL)
        self._load_s = self._histogram("model_load_seconds", "Time to load a model.", _MODEL, _LOAD_S)
        self._unloads = self._counter("model_unloads", "Times a model left, or failed to load.", (*_MODEL, "reason"))
        self._evictions = self._counter("model_evictions", "Times a model made room for another.", _MODEL)
        self._failures = self._counter("worker_failures", "Workers that failed, loading or later.", _MODEL)
        self._restarts = self._counter("worker_restarts", "Workers that were started after a failure.", _MODEL)
        self._downloads = self._counter("downloads", "Downloads by how they ended.", ("model", "outcome"))
        self._download_bytes = self._counter("download_bytes", "Bytes of models that were downloaded.", ("model",))
        self._download_s = self._counter("download_seconds", "Time spent with downloads.", ("model",))

    def _counter(self, name: str, text: str, labels: tuple[str, ...]) -> Counter:
        return Counter(f"cupola_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, labels: tuple[str, ...], buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"cupola_{name}", text, labels, registry=self.registry, buckets=buckets)


class _Residents(Collector):
    """What is loaded now, and how busy it is."""

    def __init__(self, engine: EngineView) -> None:
        self._engine = engine

    def collect(self) -> Iterable[GaugeMetricFamily]:
        residents = self._engine.residents()
        yield _gauge("cupola_slots", "Turns that can share a step.", residents, [r.report.capacity for r in residents])
        active = [min(r.turns, r.report.capacity) for r in residents]
        yield _gauge("cupola_turns_active", "Turns that run.", residents, active)
        waiting = [max(0, r.turns - r.report.capacity) for r in residents]
        yield _gauge("cupola_turns_waiting", "Turns in the queue, waiting for a slot.", residents, waiting)
        memory = [r.memory_bytes for r in residents]
        yield _gauge("cupola_model_memory_bytes", "Memory that a model's worker takes.", residents, memory)
        fallbacks = [int(r.report.fallback) for r in residents]
        text = "1 if a model's provider took a smaller share of its graph than asked for."
        yield _gauge("cupola_model_fallback", text, residents, fallbacks)
        yield _nodes(residents)


def _nodes(residents: Iterable[ResidentStatus]) -> GaugeMetricFamily:
    """Say how many nodes of each model each of ONNX Runtime's execution providers took."""
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

"""Prometheus metrics under /metrics, collected by an `observe` hook: the plugin `metrics`.

Loaded through the entry point `metrics` like any other plugin. It collects only while a server runs.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from cupola.events import Event, Settings, hookimpl
from cupola.frontend import ApiFrontend

if TYPE_CHECKING:
    from cupola_server.metrics.meters import Meters

__all__ = ["MetricsPlugin", "plugin"]


class MetricsPlugin:
    """Collects metrics once a server has created its front-ends, and does nothing before."""

    def __init__(self) -> None:
        self._meters: Meters | None = None

    @hookimpl
    def api_frontends(self, settings: Settings) -> Iterable[ApiFrontend]:  # noqa: ARG002 - it has no settings
        """Contribute the front-end, with all metrics at zero."""
        from cupola_server.metrics.meters import Meters, MetricsFrontend  # noqa: PLC0415 - only a server needs it

        self._meters = Meters()
        return [MetricsFrontend(self._meters)]

    @hookimpl
    def observe(self, event: Event) -> None:
        """Record an event."""
        if self._meters is not None:
            self._meters.record(event)


plugin = MetricsPlugin()
"""The object that the entry point names, because the hooks share state."""

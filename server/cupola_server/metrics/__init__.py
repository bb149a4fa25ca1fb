"""Metrics for Prometheus under /metrics, gathered from what `observe` hooks are told: the plugin `metrics`.

A plugin like anybody's, loaded through the entry point `metrics`. It counts only while a server runs.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from cupola.events import Event, Settings, hookimpl
from cupola.frontend import ApiFrontend

if TYPE_CHECKING:
    from cupola_server.metrics.meters import Meters

__all__ = ["MetricsPlugin", "plugin"]


class MetricsPlugin:
    """Counts from the moment a server asks for front-ends; before that, and without a server, it does nothing."""

    def __init__(self) -> None:
        self._meters: Meters | None = None

    @hookimpl
    def api_frontends(self, settings: Settings) -> Iterable[ApiFrontend]:  # noqa: ARG002 - nothing of it can be set
        """Contribute the front-end, with meters at zero."""
        from cupola_server.metrics.frontend import MetricsFrontend  # noqa: PLC0415 - commands that serve nothing need
        from cupola_server.metrics.meters import Meters  # noqa: PLC0415 - neither of them

        self._meters = Meters()
        return [MetricsFrontend(self._meters)]

    @hookimpl
    def observe(self, event: Event) -> None:
        """Count an event."""
        if self._meters is not None:
            self._meters.note(event)


plugin = MetricsPlugin()
"""What the entry point names: hooks need an object that remembers the meters from one call to the next."""

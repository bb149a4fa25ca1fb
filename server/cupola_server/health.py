"""Health endpoints: whether the service is alive (/healthz) and ready for requests (/readyz)."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import msgspec
from msgspec import Struct

from cupola_server.openai.errors import NotReadyError
from cupola_server.openai.exchange import Exchange
from cupola_server.openapi import Operation

HEALTH_PATHS = frozenset({"/healthz", "/readyz"})
"""Served without an API key and until the very end, because they reveal no more than a connection does."""


class Alive(Struct):
    """The response of GET /healthz."""

    status: Literal["ok"] = "ok"


class Ready(Struct):
    """The response of GET /readyz. `failed_plugins` names plugins that are not available."""

    status: Literal["ready"] = "ready"
    failed_plugins: tuple[str, ...] = ()


@dataclass(slots=True, eq=False)
class Health:
    """The state of one service, updated by the code that starts and stops it.

    Attributes:
        starting: Whether models are still being preloaded.
        stopping: Whether the service is shutting down.
        problem: Why no model can run at all, as a sentence; "" if models can run.
        failed_plugins: The names of plugins that failed completely or in part.
    """

    starting: bool = False
    stopping: bool = False
    problem: str = ""
    failed_plugins: set[str] = field(default_factory=set)

    def operations(self) -> Iterator[Operation]:
        """List the operations of the health endpoints."""
        yield Operation(
            method="GET", path="/healthz", handler=self._alive, summary="Check that the service is alive", reply=Alive
        )
        yield Operation(
            method="GET", path="/readyz", handler=self._ready, summary="Check that the service is ready", reply=Ready
        )

    async def _alive(self, exchange: Exchange) -> None:
        await exchange.reply(200, msgspec.json.encode(Alive()))

    async def _ready(self, exchange: Exchange) -> None:
        if self.stopping:
            raise NotReadyError(detail="The service is stopping.")
        if self.starting:
            raise NotReadyError(detail="The service is still loading its preload models.")
        if self.problem:
            raise NotReadyError(detail=self.problem)
        await exchange.reply(200, msgspec.json.encode(Ready(failed_plugins=tuple(sorted(self.failed_plugins)))))

"""Whether the service lives (/healthz) and whether it can take requests (/readyz)."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import msgspec
from msgspec import Struct

from cupola_server.openai.errors import NotReadyError
from cupola_server.openai.exchange import Exchange
from cupola_server.openapi import Operation

HEALTH_PATHS = frozenset({"/healthz", "/readyz"})
"""Answered without an API key and until the very end: they tell nothing that a connection does not."""


class Alive(Struct):
    """The reply to GET /healthz."""

    status: Literal["ok"] = "ok"


class Ready(Struct):
    """The reply to GET /readyz. Plugins that failed are named; what they would have brought is missing."""

    status: Literal["ready"] = "ready"
    failed_plugins: tuple[str, ...] = ()


@dataclass(slots=True, eq=False)
class Health:
    """The state of one service, kept up by whoever starts and stops it.

    Attributes:
        starting: Models are still being preloaded.
        stopping: Running requests may end; new ones are refused.
        problem: A sentence saying why no model can be run at all; empty if one can.
        failed_plugins: Plugins that are not in use, or not wholly.
    """

    starting: bool = False
    stopping: bool = False
    problem: str = ""
    failed_plugins: set[str] = field(default_factory=set)

    def operations(self) -> Iterator[Operation]:
        """List the operations that tell it."""
        yield Operation(method="GET", path="/healthz", handler=self._alive, summary="Say that it lives", reply=Alive)
        yield Operation(method="GET", path="/readyz", handler=self._ready, summary="Say if it is ready", reply=Ready)

    async def _alive(self, exchange: Exchange) -> None:
        await exchange.reply(200, msgspec.json.encode(Alive()))

    async def _ready(self, exchange: Exchange) -> None:
        if self.stopping:
            raise NotReadyError(detail="The service is stopping.")
        if self.starting:
            raise NotReadyError(detail="The service is loading the models that it shall start with.")
        if self.problem:
            raise NotReadyError(detail=self.problem)
        await exchange.reply(200, msgspec.json.encode(Ready(failed_plugins=tuple(sorted(self.failed_plugins)))))

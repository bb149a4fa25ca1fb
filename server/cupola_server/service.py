"""The service around the front-ends, as they see it (`cupola.ServiceView`)."""

from dataclasses import dataclass

import anyio


@dataclass(slots=True, eq=False)
class RunningService:
    """One service, kept up by whoever starts and stops it.

    Attributes:
        stopping: Set by whoever wants it to stop, from inside or outside; `serve` waits for it.
        urls: Base URLs under which it answers; none before it listens.
    """

    stopping: anyio.Event
    urls: tuple[str, ...] = ()

    def stop(self) -> None:
        """Ask the service to stop: running requests may end, new ones are refused."""
        self.stopping.set()

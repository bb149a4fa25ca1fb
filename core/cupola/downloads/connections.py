"""The HTTP client of a transfer, and a way to break off what it waits for from another thread."""

import contextlib
import socket
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cupola.downloads.addresses import keep_addresses_out_of_logs
from cupola.errors import DownloadError
from cupola.settings import DownloadSettings

if TYPE_CHECKING:
    import httpx


def open_client(settings: DownloadSettings, model_id: str) -> "httpx.Client":
    """Make a client that heeds the proxy and certificate variables of the environment.

    A blocking one, because it costs a third of the processor time per byte of an asynchronous one.

    Raises:
        DownloadError: Those variables do not work.
    """
    import httpx  # noqa: PLC0415 - a tenth of a second that only downloads should cost

    keep_addresses_out_of_logs()
    try:
        return httpx.Client(
            timeout=httpx.Timeout(settings.stall_timeout_s, connect=settings.connect_timeout_s, pool=None),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=settings.workers),
            headers={"User-Agent": "cupola", "Accept-Encoding": "identity"},
            follow_redirects=True,
        )
    except (ImportError, OSError, ValueError, httpx.InvalidURL) as error:
        detail = f"the proxy or certificate settings of the environment do not work: {error}"
        raise DownloadError(model=model_id, detail=detail) from error


class Connections:
    """The sockets of a transfer: `trace`, a "trace" extension of httpcore, collects them; `break_off` ends them all."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._broken = False

    def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Take note of a new connection."""
        if not event.endswith((".connect_tcp.complete", ".start_tls.complete")):
            return
        opened = info["return_value"].get_extra_info("socket")
        with self._lock:
            self._sockets.append(opened)
            if self._broken:
                _shut_down(opened)

    def break_off(self) -> None:
        """Make every thread that waits for a connection go on at once, with an error; later ones too."""
        with self._lock:
            self._broken = True
            for opened in self._sockets:
                _shut_down(opened)


def _shut_down(opened: socket.socket) -> None:
    with contextlib.suppress(OSError):  # closed already
        # Not the method of an SSL socket, which would take its state from under the thread that reads.
        socket.socket.shutdown(opened, socket.SHUT_RDWR)

"""HTTP connections of a transfer, and a way to break off what they wait for from another thread.

The standard library's client, because it costs a tenth of the processor time per byte of httpx: a body goes from the
socket to the disk without being copied on the way. What httpx does beside that and downloads need is here: the proxy
and certificate variables of the environment, redirects, connections that are kept.
"""

import base64
import contextlib
import http.client
import logging
import re
import socket
import ssl
import threading
import urllib.request
from collections.abc import Mapping
from functools import lru_cache
from urllib.parse import SplitResult, quote, unquote, urljoin, urlsplit

from cupola.errors import DownloadError
from cupola.settings import DownloadSettings

_MOST_REDIRECTS = 20
_REDIRECTS = (301, 302, 303, 307, 308)
_SAFE = "/%:@!$&'()*+,;=~?[]"
_STALE = (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError)
Origin = tuple[str, str, int | None]


class AddressError(Exception):
    """An address that leads nowhere, however often it is tried."""


class Answer:
    """The answer to a request. Close it; a body that was read to its end leaves the connection for the next request."""

    def __init__(self, response: http.client.HTTPResponse, connection: http.client.HTTPConnection) -> None:
        self._response = response
        self.connection = connection
        self.status = response.status
        self.reason = response.reason
        self.headers = response.headers

    def read(self, most_bytes: int) -> bytes:
        """Return what has arrived of the body, waiting for a first byte; nothing at its end."""
        return self._response.read1(most_bytes)

    def close(self) -> bool:
        """Let go of it; returns whether the connection can be used again."""
        is_read = self._response.length == 0 or self._response.isclosed()
        self._response.close()
        if not is_read or self._response.will_close:
            self.connection.close()
            return False
        return True


class Connections:
    """The connections of all threads of a transfer.

    Raises:
        DownloadError: The proxy settings of the environment do not work.
    """

    def __init__(self, settings: DownloadSettings, model_id: str) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._kept: dict[Origin, list[http.client.HTTPConnection]] = {}
        self._broken = False
        self._proxies = _proxies(model_id)

    def get(self, url: str, headers: Mapping[str, str]) -> Answer:
        """Ask for an address, following redirects. Give the answer back with `put_back`.

        Raises:
            AddressError: It leads nowhere.
            OSError, http.client.HTTPException: The connection failed.
        """
        for _ in range(_MOST_REDIRECTS):
            parts = _split(url)
            answer = self._ask(parts, headers)
            location = answer.headers.get("Location") if answer.status in _REDIRECTS else None
            if location is None:
                return answer
            self._let_go(answer, parts)
            url = urljoin(url, location)
        raise AddressError("too many redirects")

    def put_back(self, answer: Answer, url: str) -> None:
        """Close an answer, and keep its connection if it can be used again."""
        self._let_go(answer, _split(url))

    def break_off(self) -> None:
        """Make every thread that waits for a connection go on at once, with an error; later ones too."""
        with self._lock:
            self._broken = True
            for opened in self._sockets:
                _shut_down(opened)

    def close(self) -> None:
        """Close what was kept."""
        with self._lock:
            kept, self._kept = self._kept, {}
        for connection in (connection for connections in kept.values() for connection in connections):
            connection.close()

    def _ask(self, parts: SplitResult, headers: Mapping[str, str]) -> Answer:
        proxy = self._proxy(parts)
        target = quote(parts.path or "/", safe=_SAFE) + (f"?{quote(parts.query, safe=_SAFE)}" if parts.query else "")
        sent = {"User-Agent": "cupola", "Accept-Encoding": "identity", **headers, **_authorization(parts)}
        if proxy and parts.scheme == "http":
            target = f"http://{parts.netloc.rpartition('@')[2]}{target}"
            sent |= _authorization(proxy, "Proxy-Authorization")
        if (kept := self._take_kept(parts)) is not None:
            with contextlib.suppress(*_STALE):  # the server closed it meanwhile: a new one will do
                return self._send(kept, target, sent)
        return self._send(self._connect(parts, proxy), target, sent)

    def _send(self, connection: http.client.HTTPConnection, target: str, headers: Mapping[str, str]) -> Answer:
        try:
            connection.request("GET", target, headers=dict(headers))
            return Answer(connection.getresponse(), connection)
        except BaseException:
            self._forget(connection)
            raise

    def _connect(self, parts: SplitResult, proxy: SplitResult | None) -> http.client.HTTPConnection:
        to = proxy or parts
        host, timeout_s = to.hostname or "", self._settings.connect_timeout_s
        connection: http.client.HTTPConnection
        if parts.scheme == "https":
            connection = http.client.HTTPSConnection(host, to.port, timeout=timeout_s, context=_tls())
            if proxy:
                tunnel = _authorization(proxy, "Proxy-Authorization")
                connection.set_tunnel(parts.hostname or "", parts.port or 443, tunnel)
        else:
            connection = http.client.HTTPConnection(host, to.port, timeout=timeout_s)
        try:
            connection.connect()
            connection.sock.settimeout(self._settings.stall_timeout_s)
        except BaseException:
            connection.close()
            raise
        with self._lock:
            self._sockets.add(connection.sock)
            if self._broken:
                _shut_down(connection.sock)
        return connection

    def _take_kept(self, parts: SplitResult) -> http.client.HTTPConnection | None:
        with self._lock:
            kept = self._kept.get(_origin(parts))
            return kept.pop() if kept else None

    def _let_go(self, answer: Answer, parts: SplitResult) -> None:
        connection = answer.connection
        opened = connection.sock
        if answer.close():
            with self._lock:
                self._kept.setdefault(_origin(parts), []).append(connection)
        elif opened is not None:
            with self._lock:
                self._sockets.discard(opened)

    def _forget(self, connection: http.client.HTTPConnection) -> None:
        with self._lock:
            self._sockets.discard(connection.sock)
        connection.close()

    def _proxy(self, parts: SplitResult) -> SplitResult | None:
        proxy = self._proxies.get(parts.scheme) or self._proxies.get("all")
        if proxy is None or urllib.request.proxy_bypass(parts.netloc.rpartition("@")[2]):
            return None
        return proxy


def _proxies(model_id: str) -> dict[str, SplitResult]:
    found = {}
    for scheme, address in urllib.request.getproxies().items():
        if scheme not in ("http", "https", "all"):
            continue
        parts = urlsplit(address if "://" in address else f"http://{address}")
        if parts.scheme != "http" or not parts.hostname:
            detail = (
                f"the proxy settings of the environment do not work: {scheme}_proxy names a proxy of the kind "
                f"{parts.scheme!r}, only http is supported"
            )
            raise DownloadError(model=model_id, detail=detail)
        found[scheme] = parts
    return found


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise AddressError(f"is no address: {error}") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise AddressError("is no http or https address")
    return parts


def _origin(parts: SplitResult) -> Origin:
    return parts.scheme, parts.hostname or "", parts.port


def _authorization(parts: SplitResult, header: str = "Authorization") -> dict[str, str]:
    if parts.username is None:
        return {}
    words = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return {header: f"Basic {base64.b64encode(words.encode()).decode()}"}


@lru_cache(maxsize=1)
def _tls() -> ssl.SSLContext:
    """Return a context with the certificates of SSL_CERT_FILE or SSL_CERT_DIR, else with those httpx brings."""
    import httpx  # noqa: PLC0415 - a tenth of a second that only downloads should cost

    return httpx.create_ssl_context()


def _shut_down(opened: socket.socket) -> None:
    with contextlib.suppress(OSError):  # closed already
        # Not the method of an SSL socket, which would take its state from under the thread that reads.
        socket.socket.shutdown(opened, socket.SHUT_RDWR)


def without_query(url: str) -> str:
    """Drop what may be secret: the query holds signatures, the user part passwords."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "an address that is none"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def cause_text(error: Exception) -> str:
    """Return "read timeout: ...", from the class name and its words, without the query of any address in them."""
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(error).__name__).lower()
    words = {"timeout error": "timeout", "address error": "address"}.get(name, name)
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    said = re.sub(r"(https?://[^\s'\"?]+)\?[^\s'\"]*", r"\1", said)
    return f"{words}: {said}" if said else words


def keep_addresses_out_of_logs() -> None:
    """Silence the request lines of httpx and httpcore, which hold whole addresses with their signatures."""
    for name in ("httpx", "httpcore"):
        logger = logging.getLogger(name)
        if logger.level < logging.WARNING:
            logger.setLevel(logging.WARNING)

"""HTTP connections of a transfer, which another thread can abort.

Based on `http.client`, which needs a tenth of httpx's processor time per byte, because the body goes from the socket to
the disk without extra copies. This module adds what downloads need from httpx: proxy and certificate variables of the
environment, redirects, and connection reuse.
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

_MAX_REDIRECTS = 20
_REDIRECT_STATUSES = (301, 302, 303, 307, 308)
_SAFE_CHARACTERS = "/%:@!$&'()*+,;=~?[]"
_STALE_ERRORS = (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError)
_Origin = tuple[str, str, int | None]


class InvalidUrlError(Exception):
    """The URL is invalid or redirects in a loop. A retry cannot help."""


class Response:
    """The response to a request. Return it with `ConnectionPool.release`."""

    def __init__(self, response: http.client.HTTPResponse, connection: http.client.HTTPConnection) -> None:
        self._response = response
        self.connection = connection
        self.status = response.status
        self.reason = response.reason
        self.headers = response.headers

    def read(self, max_bytes: int) -> bytes:
        """Return the next bytes of the body as soon as any are available; b"" at its end."""
        return self._response.read1(max_bytes)

    def close(self) -> bool:
        """Close the response; returns whether its connection can be reused, which requires a body read to its end."""
        is_read = self._response.length == 0 or self._response.isclosed()
        self._response.close()
        if not is_read or self._response.will_close:
            self.connection.close()
            return False
        return True


class ConnectionPool:
    """The connections of all threads of a transfer.

    Args:
        settings: For the timeouts.
        model_id: For error messages.

    Raises:
        DownloadError: The proxy variables of the environment are not supported.
    """

    def __init__(self, settings: DownloadSettings, model_id: str) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._idle: dict[_Origin, list[http.client.HTTPConnection]] = {}
        self._aborted = False
        self._proxies = _read_proxies(model_id)

    def get(self, url: str, headers: Mapping[str, str]) -> Response:
        """Send a GET request and follow redirects. Give the response back with `release`.

        Raises:
            InvalidUrlError: The URL is invalid, or there are too many redirects.
            OSError, http.client.HTTPException: The connection failed.
        """
        for _ in range(_MAX_REDIRECTS):
            parts = _split_url(url)
            response = self._request(parts, headers)
            location = response.headers.get("Location") if response.status in _REDIRECT_STATUSES else None
            if location is None:
                return response
            self._release(response, parts)
            url = urljoin(url, location)
        raise InvalidUrlError("too many redirects")

    def release(self, response: Response, url: str) -> None:
        """Close a response and keep its connection for the next request, if it can be reused."""
        self._release(response, _split_url(url))

    def abort(self) -> None:
        """Shut down all sockets, also later ones, so that every waiting thread continues with an error."""
        with self._lock:
            self._aborted = True
            for sock in self._sockets:
                _shut_down(sock)

    def close(self) -> None:
        """Close the idle connections."""
        with self._lock:
            idle, self._idle = self._idle, {}
        for connection in (connection for connections in idle.values() for connection in connections):
            connection.close()

    def _request(self, parts: SplitResult, headers: Mapping[str, str]) -> Response:
        proxy = self._proxy_for(parts)
        query = f"?{quote(parts.query, safe=_SAFE_CHARACTERS)}" if parts.query else ""
        target = quote(parts.path or "/", safe=_SAFE_CHARACTERS) + query
        all_headers = {"User-Agent": "cupola", "Accept-Encoding": "identity", **headers, **_authorization(parts)}
        if proxy and parts.scheme == "http":
            target = f"http://{parts.netloc.rpartition('@')[2]}{target}"
            all_headers |= _authorization(proxy, "Proxy-Authorization")
        if (idle := self._pop_idle(parts)) is not None:
            with contextlib.suppress(*_STALE_ERRORS):  # the server closed it in the meantime; open a new one
                return self._send(idle, target, all_headers)
        return self._send(self._connect(parts, proxy), target, all_headers)

    def _send(self, connection: http.client.HTTPConnection, target: str, headers: Mapping[str, str]) -> Response:
        try:
            connection.request("GET", target, headers=dict(headers))
            return Response(connection.getresponse(), connection)
        except BaseException:
            self._discard(connection)
            raise

    def _connect(self, parts: SplitResult, proxy: SplitResult | None) -> http.client.HTTPConnection:
        peer = proxy or parts
        host, timeout_s = peer.hostname or "", self._settings.connect_timeout_s
        connection: http.client.HTTPConnection
        if parts.scheme == "https":
            connection = http.client.HTTPSConnection(host, peer.port, timeout=timeout_s, context=_ssl_context())
            if proxy:
                tunnel_headers = _authorization(proxy, "Proxy-Authorization")
                connection.set_tunnel(parts.hostname or "", parts.port or 443, tunnel_headers)
        else:
            connection = http.client.HTTPConnection(host, peer.port, timeout=timeout_s)
        try:
            connection.connect()
            connection.sock.settimeout(self._settings.stall_timeout_s)
        except BaseException:
            connection.close()
            raise
        with self._lock:
            self._sockets.add(connection.sock)
            if self._aborted:
                _shut_down(connection.sock)
        return connection

    def _pop_idle(self, parts: SplitResult) -> http.client.HTTPConnection | None:
        with self._lock:
            idle = self._idle.get(_origin(parts))
            return idle.pop() if idle else None

    def _release(self, response: Response, parts: SplitResult) -> None:
        connection = response.connection
        sock = connection.sock
        if response.close():
            with self._lock:
                self._idle.setdefault(_origin(parts), []).append(connection)
        elif sock is not None:
            with self._lock:
                self._sockets.discard(sock)

    def _discard(self, connection: http.client.HTTPConnection) -> None:
        with self._lock:
            self._sockets.discard(connection.sock)
        connection.close()

    def _proxy_for(self, parts: SplitResult) -> SplitResult | None:
        proxy = self._proxies.get(parts.scheme) or self._proxies.get("all")
        if proxy is None or urllib.request.proxy_bypass(parts.netloc.rpartition("@")[2]):
            return None
        return proxy


def redact_url(url: str) -> str:
    """Remove the parts of a URL that may be secret: signatures in the query, and the user name and password."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "an invalid URL"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def describe_error(error: Exception) -> str:
    """Return the kind and the message of an exception, such as "read timeout: ...", with all URLs redacted."""
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(error).__name__).lower()
    kind = {"timeout error": "timeout", "invalid url error": "invalid URL"}.get(name, name)
    message = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    message = re.sub(r"(https?://[^\s'\"?]+)\?[^\s'\"]*", r"\1", message)
    return f"{kind}: {message}" if message else kind


def silence_http_logs() -> None:
    """Silence the request logs of httpx and httpcore, because they contain complete URLs with signatures."""
    for name in ("httpx", "httpcore"):
        logger = logging.getLogger(name)
        if logger.level < logging.WARNING:
            logger.setLevel(logging.WARNING)


def _read_proxies(model_id: str) -> dict[str, SplitResult]:
    proxies = {}
    for scheme, url in urllib.request.getproxies().items():
        if scheme not in ("http", "https", "all"):
            continue
        parts = urlsplit(url if "://" in url else f"http://{url}")
        if parts.scheme != "http" or not parts.hostname:
            detail = (
                f"the environment variable {scheme}_proxy names a proxy with the scheme {parts.scheme!r}. Only http "
                f"proxies are supported."
            )
            raise DownloadError(model=model_id, detail=detail)
        proxies[scheme] = parts
    return proxies


def _split_url(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise InvalidUrlError(str(error)) from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidUrlError("it must begin with http:// or https:// and a host")
    return parts


def _origin(parts: SplitResult) -> _Origin:
    return parts.scheme, parts.hostname or "", parts.port


def _authorization(parts: SplitResult, header: str = "Authorization") -> dict[str, str]:
    if parts.username is None:
        return {}
    credentials = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return {header: f"Basic {base64.b64encode(credentials.encode()).decode()}"}


@lru_cache(maxsize=1)
def _ssl_context() -> ssl.SSLContext:
    """Return a context with the certificates of SSL_CERT_FILE or SSL_CERT_DIR, otherwise with httpx's own."""
    import httpx  # noqa: PLC0415 - importing it takes 0.1 s

    return httpx.create_ssl_context()


def _shut_down(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):  # closed already
        # The method of ssl.SSLSocket would discard the TLS state that the reading thread still uses.
        socket.socket.shutdown(sock, socket.SHUT_RDWR)

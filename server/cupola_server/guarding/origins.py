"""Which web pages may use the service: none, unless they are listed (CORS, Fetch Metadata, Private Network Access)."""

from collections.abc import Iterable, Mapping

from cupola.errors import SettingsError
from cupola_server.openai.errors import Headers, OriginRefusedError

_METHODS = b"GET, HEAD, POST, PUT, PATCH, DELETE"
_EXPOSED = b"x-request-id, retry-after"
_MAX_AGE_S = b"600"
_FOREIGN = (b"cross-site", b"same-site")


class Origins:
    """Decides by what browsers say about the page behind a request. Programs that are no browsers say nothing.

    The decision is the same for every path and method: a GET may run a model as well, in some dialects.

    Args:
        listed: Origins as browsers write them, "https://app.example", or "null"; "*" for all.
        keyed: Whether requests need an API key, which pages can then not do without.

    Raises:
        SettingsError: "*" without keys would open the service to every page on the web; or an entry is no origin.
    """

    def __init__(self, listed: Iterable[str], *, keyed: bool) -> None:
        self._listed = {origin.strip().rstrip("/").lower() for origin in listed}
        for origin in self._listed:
            if origin not in ("*", "null") and "://" not in origin:
                raise _refused(f"{origin!r} is no origin; they are written like https://app.example")
        if "*" in self._listed and not keyed:
            raise _refused("'*' lets every web page in, which needs server.api_keys or server.api_key_file")

    def admit(self, headers: Mapping[bytes, bytes]) -> Headers:
        """Decide about a request; returns the headers that its reply needs to be readable for the page.

        Raises:
            OriginRefusedError: It comes from a page of another origin that is not listed.
        """
        origin = headers.get(b"origin")
        if origin is None:
            self._check_page(headers)
            return ()
        text = origin.decode("latin-1")
        if text.lower() in self._listed or "*" in self._listed:
            return (
                (b"access-control-allow-origin", origin),
                (b"access-control-expose-headers", _EXPOSED),
                (b"vary", b"origin"),
            )
        if not _is_own(text, headers):
            raise OriginRefusedError(origin=text[:80])
        return ()

    def _check_page(self, headers: Mapping[bytes, bytes]) -> None:
        """Check a request without an Origin, such as a page makes with an image: browsers say where it comes from.

        Those that are too old to send Sec-Fetch-Site name the page as the referrer, unless it asks them not to.
        """
        site = headers.get(b"sec-fetch-site")
        if site in _FOREIGN:
            raise OriginRefusedError(origin="another site")
        page = headers.get(b"referer", b"").decode("latin-1")
        if site is None and page:
            origin = "/".join(page.split("/", 3)[:3])
            if not (_is_own(origin, headers) or origin.lower() in self._listed or "*" in self._listed):
                raise OriginRefusedError(origin=origin[:80])


def is_preflight(method: str, headers: Mapping[bytes, bytes]) -> bool:
    """Whether a browser asks beforehand if a page may send a request."""
    return method == "OPTIONS" and b"origin" in headers and b"access-control-request-method" in headers


def preflight_headers(headers: Mapping[bytes, bytes]) -> Headers:
    """Return what tells a browser that the page may."""
    answer: Headers = (
        (b"access-control-allow-methods", _METHODS),
        (b"access-control-allow-headers", headers.get(b"access-control-request-headers", b"*")),
        (b"access-control-max-age", _MAX_AGE_S),
    )
    if headers.get(b"access-control-request-private-network") == b"true":
        answer = (*answer, (b"access-control-allow-private-network", b"true"))
    return answer


def _is_own(origin: str, headers: Mapping[bytes, bytes]) -> bool:
    """Whether a page came from this service itself."""
    host = headers.get(b"host", headers.get(b":authority", b"")).decode("latin-1")
    return bool(host) and origin.lower() in (f"http://{host.lower()}", f"https://{host.lower()}")


def _refused(problem: str) -> SettingsError:
    return SettingsError(key="server.cors_origins", source="the settings", problem=problem)

"""Checks which web pages may use the service: only listed ones (CORS, Fetch Metadata, Private Network Access)."""

from collections.abc import Iterable, Mapping

from cupola.errors import SettingsError
from cupola_server.openai.errors import Headers, OriginRefusedError

_METHODS = b"GET, HEAD, POST, PUT, PATCH, DELETE"
_EXPOSED = b"x-request-id, retry-after"
_MAX_AGE_S = b"600"
_FOREIGN = (b"cross-site", b"same-site")


class Origins:
    """The allowed origins, checked against the headers that browsers send. Other programs do not send them.

    All paths and methods are treated alike, because in some APIs a GET request runs a model.

    Args:
        listed: Origins such as "https://app.example" or "null"; "*" allows all.
        keyed: Whether requests need an API key.

    Raises:
        SettingsError: "*" is used without keys, which would open the service to all web pages; or an entry is invalid.
    """

    def __init__(self, listed: Iterable[str], *, keyed: bool) -> None:
        self._listed = {origin.strip().rstrip("/").lower() for origin in listed}
        for origin in self._listed:
            if origin not in ("*", "null") and "://" not in origin:
                raise _invalid_setting(f"{origin!r} is not an origin such as https://app.example")
        if "*" in self._listed and not keyed:
            raise _invalid_setting("'*' allows every web page, which requires server.api_keys or server.api_key_file")

    def admit(self, headers: Mapping[bytes, bytes]) -> Headers:
        """Check a request, and return the headers that let its page read the response.

        Raises:
            OriginRefusedError: The request comes from a page of an origin that is not listed.
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
        """Check a request without Origin header, such as for an image, by its Sec-Fetch-Site header.

        Browsers too old to send that header usually send the page as the referrer.
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
    """Whether a request is a CORS preflight request."""
    return method == "OPTIONS" and b"origin" in headers and b"access-control-request-method" in headers


def preflight_headers(headers: Mapping[bytes, bytes]) -> Headers:
    """Return the headers that allow the request that the preflight announces."""
    answer: Headers = (
        (b"access-control-allow-methods", _METHODS),
        (b"access-control-allow-headers", headers.get(b"access-control-request-headers", b"*")),
        (b"access-control-max-age", _MAX_AGE_S),
    )
    if headers.get(b"access-control-request-private-network") == b"true":
        answer = (*answer, (b"access-control-allow-private-network", b"true"))
    return answer


def _is_own(origin: str, headers: Mapping[bytes, bytes]) -> bool:
    """Whether an origin is that of the service itself."""
    host = headers.get(b"host", headers.get(b":authority", b"")).decode("latin-1")
    return bool(host) and origin.lower() in (f"http://{host.lower()}", f"https://{host.lower()}")


def _invalid_setting(problem: str) -> SettingsError:
    return SettingsError(key="server.cors_origins", source="the settings", problem=problem)

"""Checks the Host header, so that a foreign domain that resolves to this machine does not work (DNS rebinding)."""

import re
from collections.abc import Iterable, Mapping
from ipaddress import ip_address

from cupola_server.openai.errors import HostRefusedError

_BRACKETED = re.compile(r"\[([^]]*)\](?::\d*)?")
_OWN = ("localhost", "127.0.0.1", "::1")


class Hosts:
    """The allowed hosts, independent of the port.

    Args:
        names: Names to allow besides those of loopback; "*" allows all.
        addresses: Whether to allow all plain IP addresses. They cannot be rebound, and a service that listens on all
            addresses of a machine does not know them.
    """

    def __init__(self, names: Iterable[str], *, addresses: bool = False) -> None:
        self._names = {_without_port(name) for name in (*_OWN, *names)}
        self._any = "*" in self._names
        self._addresses = addresses

    def check(self, headers: Mapping[bytes, bytes]) -> None:
        """Check a request.

        Raises:
            HostRefusedError: The Host header is missing or names another host.
        """
        host = headers.get(b":authority", headers.get(b"host", b"")).decode("latin-1")
        name = _without_port(host)
        if not (self._any or name in self._names or (self._addresses and _is_address(name))):
            raise HostRefusedError(host=host[:80])


def _without_port(host: str) -> str:
    """Return the name without the port. IPv6 addresses may have brackets."""
    host = host.strip()
    if found := _BRACKETED.fullmatch(host):
        return _normalize(found[1])
    return _normalize(host.partition(":")[0] if host.count(":") == 1 else host)


def _normalize(name: str) -> str:
    """Normalise a name or address."""
    name = name.lower().removesuffix(".")
    return str(ip_address(name)) if _is_address(name) else name


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True

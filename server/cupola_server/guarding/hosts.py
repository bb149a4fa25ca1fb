"""The names by which the service may be called: a foreign domain that points here must not work (DNS rebinding)."""

import re
from collections.abc import Iterable, Mapping
from ipaddress import ip_address

from cupola_server.openai.errors import HostRefusedError

_BRACKETED = re.compile(r"\[([^]]*)\](?::\d*)?")
_OWN = ("localhost", "127.0.0.1", "::1")


class Hosts:
    """Decides by the Host header, whatever its port.

    Args:
        names: Names to allow beside those of loopback; "*" for all.
        addresses: Whether any bare IP address will do. It cannot be rebound, and who listens on all addresses of a
            machine seldom knows them.
    """

    def __init__(self, names: Iterable[str], *, addresses: bool = False) -> None:
        self._names = {_without_port(name) for name in (*_OWN, *names)}
        self._any = "*" in self._names
        self._addresses = addresses

    def check(self, headers: Mapping[bytes, bytes]) -> None:
        """Check a request.

        Raises:
            HostRefusedError: It calls the service by another name, or by none.
        """
        host = headers.get(b":authority", headers.get(b"host", b"")).decode("latin-1")
        name = _without_port(host)
        if not (self._any or name in self._names or (self._addresses and _is_address(name))):
            raise HostRefusedError(host=host[:80])


def _without_port(host: str) -> str:
    """Return the name alone; an IPv6 address may stand with or without brackets."""
    host = host.strip()
    if found := _BRACKETED.fullmatch(host):
        return _plain(found[1])
    return _plain(host.partition(":")[0] if host.count(":") == 1 else host)


def _plain(name: str) -> str:
    """Bring names that mean the same to one form."""
    name = name.lower().removesuffix(".")
    return str(ip_address(name)) if _is_address(name) else name


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True

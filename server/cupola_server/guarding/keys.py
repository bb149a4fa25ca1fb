"""API keys: where they come from, and whether a request brings one."""

import hashlib
import hmac
from collections.abc import Iterable, Mapping

import anyio

from cupola.errors import SettingsError
from cupola.settings import ServerSettings
from cupola_server.openai.errors import ApiKeyError

_SOURCE = "the settings"


class ApiKeys:
    """The keys of a service, of which only digests are kept. With none, every request passes."""

    def __init__(self, keys: Iterable[str] = ()) -> None:
        self._digests = tuple({_digest(key.encode()) for key in keys})

    def __bool__(self) -> bool:
        """Whether requests need a key."""
        return bool(self._digests)

    def check(self, headers: Mapping[bytes, bytes]) -> None:
        """Check that a request brings a key. Takes the same time for every wrong one.

        Raises:
            ApiKeyError: It brings none, or a wrong one.
        """
        if not self._digests:
            return
        scheme, _, credentials = headers.get(b"authorization", b"").partition(b" ")
        if scheme.lower() != b"bearer" or not credentials.strip():
            raise ApiKeyError(detail="This service needs an API key, in the header 'Authorization: Bearer KEY'.")
        brought = _digest(credentials.strip())
        matches = [hmac.compare_digest(brought, known) for known in self._digests]
        if not any(matches):
            raise ApiKeyError(detail="This API key is not known here.")


async def read_keys(settings: ServerSettings) -> ApiKeys:
    """Collect the keys that are set and those in the key file.

    Raises:
        SettingsError: A key cannot be sent in a header, or the file cannot be read or holds none. No key is quoted.
    """
    keys = [*settings.api_keys, *(await _from_file(settings.api_key_file) if settings.api_key_file else ())]
    for key in keys:
        if not (key.isascii() and key.isprintable() and key and " " not in key):
            problem = "a key is empty or has characters beside letters, digits and signs of ASCII"
            raise SettingsError(key="server.api_keys", source=_SOURCE, problem=problem)
    return ApiKeys(keys)


async def _from_file(name: str) -> list[str]:
    path = await anyio.Path(name).expanduser()
    try:
        lines = [line.strip() for line in (await path.read_text("utf-8")).splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text in UTF-8"
        raise SettingsError(key="server.api_key_file", source=str(path), problem=f"{reason}") from None
    keys = [line for line in lines if line and not line.startswith("#")]
    if not keys:
        raise SettingsError(key="server.api_key_file", source=str(path), problem="there is no key in the file")
    return keys


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()

"""API keys: reading them from the settings, and checking requests."""

import hashlib
import hmac
from collections.abc import Iterable, Mapping

import anyio

from cupola.errors import SettingsError
from cupola.settings import ServerSettings
from cupola_server.openai.errors import ApiKeyError

_SOURCE = "the settings"


class ApiKeys:
    """The API keys of a service, stored as digests. Without keys, every request passes."""

    def __init__(self, keys: Iterable[str] = ()) -> None:
        self._digests = tuple({_digest(key.encode()) for key in keys})

    def __bool__(self) -> bool:
        """Whether requests need a key."""
        return bool(self._digests)

    def check(self, headers: Mapping[bytes, bytes]) -> None:
        """Check that a request has a valid key. Takes the same time for every invalid one.

        Raises:
            ApiKeyError: The key is missing or invalid.
        """
        if not self._digests:
            return
        scheme, _, credentials = headers.get(b"authorization", b"").partition(b" ")
        if scheme.lower() != b"bearer" or not credentials.strip():
            raise ApiKeyError(detail="This service requires an API key in the header 'Authorization: Bearer KEY'.")
        digest = _digest(credentials.strip())
        matches = [hmac.compare_digest(digest, known) for known in self._digests]
        if not any(matches):
            raise ApiKeyError(detail="Invalid API key.")


async def read_keys(settings: ServerSettings) -> ApiKeys:
    """Read the keys from the settings and the key file.

    Raises:
        SettingsError: A key has invalid characters, or the file cannot be read or is empty. Keys are never quoted.
    """
    keys = [*settings.api_keys, *(await _read_key_file(settings.api_key_file) if settings.api_key_file else ())]
    for key in keys:
        if not (key.isascii() and key.isprintable() and key and " " not in key):
            problem = "a key is empty or contains other characters than printable ASCII without spaces"
            raise SettingsError(key="server.api_keys", source=_SOURCE, problem=problem)
    return ApiKeys(keys)


async def _read_key_file(name: str) -> list[str]:
    path = await anyio.Path(name).expanduser()
    try:
        lines = [line.strip() for line in (await path.read_text("utf-8")).splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise SettingsError(key="server.api_key_file", source=str(path), problem=f"{reason}") from None
    keys = [line for line in lines if line and not line.startswith("#")]
    if not keys:
        raise SettingsError(key="server.api_key_file", source=str(path), problem="the file contains no keys")
    return keys


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()

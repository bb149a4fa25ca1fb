"""How a client gets to its service: the same for both kinds of client."""

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx

from cupola.discovery import ServiceInfo, ensure_service, find_service, stop_service
from cupola.errors import ServiceError
from cupola.settings import Settings, load_settings

_CONNECT_TIMEOUT_S = 10.0

UNUSED_KEY = "none-needed"
"""Sent where no key is asked for; the `openai` package insists on one."""


class Reach:
    """Finds and starts the service of some settings, and says how it is called."""

    def __init__(
        self, settings: Settings | None, overrides: Sequence[str], config: Path | None, *, start: bool
    ) -> None:
        self.settings = settings or load_settings(overrides, path=config)
        self._overrides, self._config, self._start = overrides, config, start

    def find(self) -> ServiceInfo | None:
        """Find the service."""
        return find_service(self.settings)

    def ensure(self) -> ServiceInfo:
        """Find the service, or start it."""
        return ensure_service(self.settings, overrides=self._overrides, config=self._config)

    def wanted(self) -> ServiceInfo:
        """Find the service, or start it if that is wanted.

        Raises:
            ServiceError: It does not run and shall not be started, or does not start.
        """
        if self._start:
            return self.ensure()
        if found := self.find():
            return found
        raise ServiceError(detail="The service does not run. Start it with `cupola service start`.")

    def options(self, info: ServiceInfo) -> dict[str, Any]:
        """Say how an HTTP client calls a service, beside the transport."""
        return {
            "base_url": "http://localhost" if info.socket else info.url,
            "headers": {"Content-Type": "application/json", "Authorization": f"Bearer {self.key()}"},
            "timeout": httpx.Timeout(None, connect=_CONNECT_TIMEOUT_S),  # loading takes as long as it takes
            "trust_env": False,  # a proxy would be asked for an address of this machine
        }

    def stop(self) -> bool:
        """Stop the service."""
        return stop_service(self.settings)

    def key(self) -> str:
        """Return an API key that the service takes.

        Raises:
            ServiceError: The file of keys cannot be read.
        """
        server = self.settings.server
        keys = [*server.api_keys]
        if not keys and server.api_key_file:
            path = Path(server.api_key_file).expanduser()
            try:
                keys = [line.strip() for line in path.read_text("utf-8").splitlines()]
            except (OSError, UnicodeDecodeError) as error:
                raise ServiceError(detail=f"The API keys in {path} cannot be read: {error}.") from None
        return next((key for key in keys if key and not key.startswith("#")), UNUSED_KEY)


def unreachable(info: ServiceInfo | None, error: Exception) -> ServiceError:
    """Say that the service does not answer."""
    detail = str(error) or type(error).__name__
    place, log = (f" at {info.url}", f" Its log is {info.log}") if info else ("", "")
    return ServiceError(detail=f"The service does not answer{place} ({detail}).{log}")


def openai_package() -> ModuleType:
    """Import the official `openai` package, which Cupola does not need itself.

    Raises:
        ServiceError: It is not installed.
    """
    try:
        import openai  # noqa: PLC0415 - optional
    except ImportError:
        raise ServiceError(detail="Chatting from Python takes the package openai: pip install openai") from None
    return openai

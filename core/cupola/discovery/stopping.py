"""Stopping an agent."""

import os
import signal
import sys

from cupola.discovery.files import ServiceFiles
from cupola.discovery.info import ServiceInfo
from cupola.discovery.processes import is_alive, wait_for_end
from cupola.discovery.starting import starting_alone
from cupola.settings import Settings

_MARGIN_S = 10.0
_KILLED_S = 5.0


def stop_service(settings: Settings) -> bool:
    """Stop the agent of this user and cache, and wait until it is gone. Its running answers may end first.

    One that does not end in the time that it has for that, and some more, is killed.

    Returns:
        Whether there was one.

    Raises:
        ServiceStartError: Somebody else has been starting it for too long.
    """
    files = ServiceFiles.of(settings)
    with starting_alone(files, settings.service.start_timeout_s + _MARGIN_S):
        info = files.read()
        if info is None or not is_alive(info.pid, info.born):
            return False
        if not info.stopping:
            _signal(info, signal.SIGTERM)
        if not wait_for_end(info.pid, info.born, timeout_s=settings.server.drain_timeout_s + _MARGIN_S):
            _signal(info, signal.SIGTERM if sys.platform == "win32" else signal.SIGKILL)
            wait_for_end(info.pid, info.born, timeout_s=_KILLED_S)
        files.remove(info)
    return True


def _signal(info: ServiceInfo, signum: int) -> None:
    if is_alive(info.pid, info.born):
        os.kill(info.pid, signum)

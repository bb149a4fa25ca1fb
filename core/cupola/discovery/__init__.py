"""Finds, starts and stops the background service.

The command line, `cupola.client` and other Python programs use it. There is one background service for each user and
cache folder. It writes its addresses to a file; the file is ignored once the process that wrote it has ended.
"""

from cupola.discovery.lifecycle import Handshake, agent_command, ensure_service, start_service, stop_service
from cupola.discovery.processes import is_alive, process_start
from cupola.discovery.service_files import ServiceFiles, ServiceInfo, find_service

__all__ = [
    "Handshake",
    "ServiceFiles",
    "ServiceInfo",
    "agent_command",
    "ensure_service",
    "find_service",
    "is_alive",
    "process_start",
    "start_service",
    "stop_service",
]

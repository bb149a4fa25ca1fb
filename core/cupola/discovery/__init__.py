"""How the background service (the agent) is found, started when it is absent, and stopped.

Anybody may call this: the command line, `cupola.client`, other programs in Python. There is one agent for each user and
cache. What it says of itself lies in a file; a file whose agent is gone counts as none.
"""

from cupola.discovery.files import AGENT, ServiceFiles, find_service
from cupola.discovery.info import ServiceInfo
from cupola.discovery.locked import locked
from cupola.discovery.processes import birth, is_alive
from cupola.discovery.starting import Handshake, agent_command, ensure_service, start_service
from cupola.discovery.stopping import stop_service

__all__ = [
    "AGENT",
    "Handshake",
    "ServiceFiles",
    "ServiceInfo",
    "agent_command",
    "birth",
    "ensure_service",
    "find_service",
    "is_alive",
    "locked",
    "start_service",
    "stop_service",
]

"""Access checks in front of all front-ends: hosts, origins, API keys and body limits. Only `server` uses them."""

from cupola_server.security.guard import Guard
from cupola_server.security.hosts import Hosts
from cupola_server.security.keys import ApiKeys, read_keys
from cupola_server.security.origins import Origins

__all__ = ["ApiKeys", "Guard", "Hosts", "Origins", "read_keys"]

"""What stands between the network and every front-end: hosts, origins, keys, bodies. Called by `serving` alone."""

from cupola_server.guarding.guard import Guard
from cupola_server.guarding.hosts import Hosts
from cupola_server.guarding.keys import ApiKeys, read_keys
from cupola_server.guarding.origins import Origins

__all__ = ["ApiKeys", "Guard", "Hosts", "Origins", "read_keys"]

"""What can be measured: the engine in this process, our service, peers, and whatever speaks OpenAI's API."""

from cupola_server.bench.targets.engine import EngineTarget
from cupola_server.bench.targets.peer import PeerTarget
from cupola_server.bench.targets.remote import CommandTarget, RemoteTarget
from cupola_server.bench.targets.service import ServiceTarget
from cupola_server.bench.targets.target import Started, Target

__all__ = ["CommandTarget", "EngineTarget", "PeerTarget", "RemoteTarget", "ServiceTarget", "Started", "Target"]

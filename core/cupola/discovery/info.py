"""What an agent says of itself."""

from msgspec import Struct


class ServiceInfo(Struct, frozen=True, kw_only=True):
    """How an agent is reached, and which process it is.

    Attributes:
        url: Its base URL, "http://127.0.0.1:43121".
        socket: Path of its Unix domain socket, which serves the same and needs no API key; "" where there is none.
        pid: Its process id.
        born: What tells the process from a later one with the same id; see `birth`.
        started_unix: When it was ready, in seconds since 1970.
        cache_dir: Where its models lie.
        log: The file that it logs to.
        version: Cupola's version.
        providers: Execution providers that it can run models on, by their whole names.
        stopping: It ends its running answers and takes no more requests.
    """

    url: str
    socket: str
    pid: int
    born: str
    started_unix: float
    cache_dir: str
    log: str
    version: str
    providers: tuple[str, ...] = ()
    stopping: bool = False

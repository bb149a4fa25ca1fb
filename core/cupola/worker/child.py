"""The worker process: `python -m cupola.worker.child SOCKET PARENT_PID STEP_TIMEOUT`.

It loads one model, serves its turns, and ends when the socket closes. It never outlives the service: on Linux the
kernel kills it with its parent; elsewhere it sees the closed socket between two steps; and a step that hangs, even
one that holds the interpreter lock, is ended by an alarm.
"""

import ctypes
import logging
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec
import psutil

from cupola.contracts import Device, EmbeddingSession, Limits, ModelFiles, Session
from cupola.errors import CupolaError, FallbackError, InvalidParameterError, LoadError, to_wire
from cupola.messages import SessionReport
from cupola.plugins import provider_options
from cupola.protocol import Ask, Cancel, FromWorker, Load, LoadFailed, Step, Submit, ToWorker, TurnFailed
from cupola.settings import ModelSettings, Settings
from cupola.worker.frames import FrameReader, encode
from cupola.worker.loop import TurnLoop
from cupola.worker.plugin import import_provider
from cupola.worker.questions import answer

logger = logging.getLogger(__name__)
_PR_SET_PDEATHSIG = 1
_RECEIVE_BYTES = 1 << 16


class Connection:
    """The worker's end of the socket."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._reader: FrameReader[ToWorker] = FrameReader(ToWorker)  # type: ignore[arg-type]

    def receive(self, *, block: bool) -> list[ToWorker]:
        """Return what arrived; waits for something if `block`.

        Raises:
            EOFError: The service closed the socket, or is gone.
        """
        messages: list[ToWorker] = []
        while (block and not messages) or select.select([self._socket], [], [], 0)[0]:
            data = self._socket.recv(_RECEIVE_BYTES)
            if not data:
                raise EOFError
            messages += self._reader.feed(data)
        return messages

    def send(self, message: FromWorker) -> None:
        """Send one frame; waits while the service does not read."""
        try:
            self._socket.sendall(encode(message))
        except OSError as error:
            raise EOFError from error


def main(argv: list[str]) -> int:
    """Run the worker; returns its exit code."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
    descriptor, parent, step_timeout = argv[0], int(argv[1]), float(argv[2])
    die_with(parent)
    try:
        with _inherited_socket(descriptor) as sock:
            return _serve(Connection(sock), step_timeout)
    except EOFError:
        return 0


def _serve(connection: Connection, step_timeout: float) -> int:
    load, *early = connection.receive(block=True)
    if not isinstance(load, Load):
        raise TypeError(f"the first frame must be a Load, not a {type(load).__name__}")
    started = time.perf_counter()
    try:
        session = load_session(load)
    except CupolaError as error:
        connection.send(LoadFailed(to_wire(error)))
        return 1
    except Exception as error:
        logger.exception("Loading failed")
        detail = f"{type(error).__name__}: {error}"
        connection.send(LoadFailed(to_wire(LoadError(model=load.model, detail=detail))))
        return 1
    try:
        connection.send(_report(session, load, time.perf_counter() - started))
        _run(session, connection, early, step_timeout)
    finally:
        session.close()
    return 0


def _run(
    session: Session | EmbeddingSession, connection: Connection, messages: list[ToWorker], step_timeout: float
) -> None:
    loop = TurnLoop(session, connection.send) if isinstance(session, Session) else None
    while True:
        with _alarm(2 * step_timeout):
            for message in messages:
                if isinstance(message, Ask):
                    connection.send(answer(message, session))
            if loop:
                loop.receive([message for message in messages if isinstance(message, Submit | Cancel)])
            else:
                _refuse([message for message in messages if isinstance(message, Submit)], connection)
            if loop and loop.busy:
                loop.step()
        messages = connection.receive(block=not (loop and loop.busy))


def _refuse(submitted: list[Submit], connection: Connection) -> None:
    """Tell who wants an answer from a model that gives none."""
    error = InvalidParameterError(param="model", detail="This model makes embeddings; it answers no prompts.")
    for message in submitted:
        connection.send(Step((TurnFailed(message.turn, to_wire(error)),)))


def load_session(load: Load) -> Session | EmbeddingSession:
    """Import the provider's plugin and load the model with it.

    Raises:
        LoadError: The plugin does not bring that provider, or the provider could not load the model.
        FallbackError: The provider took less of the model's graph than asked for.
    """
    settings = msgspec.convert(load.settings, Settings)
    provider = import_provider(load.plugin, load.provider, settings)
    if provider is None:
        detail = f"the plugin {load.plugin} brings no provider called {load.provider}"
        raise LoadError(model=load.model, detail=detail)
    device = Device(provider.name, load.device, index=load.device_index)  # type: ignore[arg-type]
    limits = Limits(settings.models.context_length or None, settings.worker.prefill_chunk)
    options = provider_options(provider, settings)
    session = provider.load(ModelFiles(load.model, Path(load.path)), device, options, limits)
    if fell_back(session.nodes, load, settings.models) and not settings.models.allow_fallback:
        session.close()
        raise FallbackError(
            model=load.model,
            provider=load.provider,
            taken=session.nodes.get(load.provider, 0),
            total=sum(session.nodes.values()),
            least_share=settings.models.min_provider_share,
        )
    return session


def fell_back(nodes: Mapping[str, int], load: Load, models: ModelSettings) -> bool:
    """Tell whether the provider took a smaller share of the nodes than asked for. Where nobody knows, it did not."""
    return bool(nodes) and nodes.get(load.provider, 0) < models.min_provider_share * sum(nodes.values())


def _report(session: Session | EmbeddingSession, load: Load, load_s: float) -> SessionReport:
    return SessionReport(
        kind=session.kind,
        reason=session.reason,
        capacity=session.capacity if isinstance(session, Session) else 1,
        context_length=session.context_length,
        threads=session.threads,
        provider=load.provider,
        load_s=load_s,
        resident_bytes=psutil.Process().memory_info().rss,
        layout=session.layout,
        template=session.tokenizer.template,
        nodes=dict(session.nodes),
        fallback=fell_back(session.nodes, load, msgspec.convert(load.settings, Settings).models),
    )


def _inherited_socket(descriptor: str) -> socket.socket:
    """Open the socket that the service made: by number, or on Windows by the description on standard input."""
    if sys.platform == "win32":
        return socket.fromshare(sys.stdin.buffer.read())
    return socket.socket(fileno=int(descriptor))


def die_with(parent: int) -> None:
    """Ask the kernel to kill this process when its parent dies, where it can."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before we asked
            sys.exit(0)


@contextmanager
def _alarm(limit_s: float) -> Iterator[None]:
    """Let the system end this process when the block takes too long; works while native code holds the lock."""
    if not hasattr(signal, "setitimer"):
        yield
        return
    signal.setitimer(signal.ITIMER_REAL, limit_s)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

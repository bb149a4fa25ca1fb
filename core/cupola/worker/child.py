"""The worker process: `python -m cupola.worker.child SOCKET PARENT_PID STEP_TIMEOUT`.

It loads one model, runs its turns, and exits when the socket closes. It never outlives the service: on Linux the
kernel kills it with its parent; otherwise it notices the closed socket between two steps. A step that hangs is ended
by an alarm, even if it holds the GIL.
"""

import ctypes
import importlib
import logging
import math
import os
import select
import signal
import socket
import sys
import time
from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec
import psutil

from cupola.contracts import Device, EmbeddingSession, ExecutionProvider, Limits, ModelFiles, Session, Tokenizer
from cupola.errors import CupolaError, FallbackError, InvalidParameterError, LoadError, WireError, WorkerError, to_wire
from cupola.messages import ChatPrompt, Embeddings, SessionReport, TextPrompt
from cupola.plugins import plugin_manager, provider_options
from cupola.protocol import (
    Ask,
    Cancel,
    DetokenizeTokens,
    EmbedTexts,
    FromWorker,
    Load,
    LoadFailed,
    Reply,
    Step,
    Submit,
    Text,
    TokenizeText,
    Tokens,
    ToWorker,
    TurnFailed,
)
from cupola.settings import ModelSettings, Settings
from cupola.worker.frames import FrameReader, encode
from cupola.worker.loop import TurnLoop

logger = logging.getLogger(__name__)
_PR_SET_PDEATHSIG = 1
_RECEIVE_BYTES = 1 << 16


class Connection:
    """The worker's end of the socket."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._reader: FrameReader[ToWorker] = FrameReader(ToWorker)  # type: ignore[arg-type]

    def receive(self, *, block: bool) -> list[ToWorker]:
        """Return the received messages; wait for at least one if `block`.

        Raises:
            EOFError: The service closed the socket or has ended.
        """
        messages: list[ToWorker] = []
        while (block and not messages) or select.select([self._socket], [], [], 0)[0]:
            data = self._socket.recv(_RECEIVE_BYTES)
            if not data:
                raise EOFError
            messages += self._reader.feed(data)
        return messages

    def send(self, message: FromWorker) -> None:
        """Send one frame, waiting while the service does not read."""
        try:
            self._socket.sendall(encode(message))
        except OSError as error:
            raise EOFError from error


def main(argv: list[str]) -> int:
    """Run the worker and return its exit code."""
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
    """Reject turns of an embedding model."""
    error = InvalidParameterError(param="model", detail="This is an embedding model; it cannot generate text.")
    for message in submitted:
        connection.send(Step((TurnFailed(message.turn, to_wire(error)),)))


def load_session(load: Load) -> Session | EmbeddingSession:
    """Import the provider's plugin and load the model with it.

    Raises:
        LoadError: The plugin does not contribute the provider, or the provider could not load the model.
        FallbackError: The provider takes a smaller share of the model's graph than required.
    """
    settings = msgspec.convert(load.settings, Settings)
    provider = import_provider(load.plugin, load.provider, settings)
    if provider is None:
        detail = f"the plugin {load.plugin} does not contribute a provider named {load.provider}"
        raise LoadError(model=load.model, detail=detail)
    device = Device(provider.name, load.device, index=load.device_index)  # type: ignore[arg-type]
    limits = Limits(settings.models.context_length or None, settings.worker.prefill_chunk)
    options = provider_options(provider, settings)
    session = provider.load(ModelFiles(load.model, Path(load.path)), device, options, limits)
    if is_below_share(session.nodes, load, settings.models) and not settings.models.allow_fallback:
        session.close()
        raise FallbackError(
            model=load.model,
            provider=load.provider,
            taken=session.nodes.get(load.provider, 0),
            total=sum(session.nodes.values()),
            least_share=settings.models.min_provider_share,
        )
    return session


def is_below_share(nodes: Mapping[str, int], load: Load, models: ModelSettings) -> bool:
    """Whether the provider takes a smaller share of the nodes than required; False if the nodes are unknown."""
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
        fallback=is_below_share(session.nodes, load, msgspec.convert(load.settings, Settings).models),
    )


def _inherited_socket(descriptor: str) -> socket.socket:
    """Open the inherited socket: by number, or on Windows from its description on standard input."""
    if sys.platform == "win32":
        return socket.fromshare(sys.stdin.buffer.read())
    return socket.socket(fileno=int(descriptor))


def die_with(parent: int) -> None:
    """Let the kernel kill this process when its parent dies, if it supports that."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the call
            sys.exit(0)


@contextmanager
def _alarm(limit_s: float) -> Iterator[None]:
    """Kill this process if the block takes too long. Works even while native code holds the GIL."""
    if not hasattr(signal, "setitimer"):
        yield
        return
    signal.setitimer(signal.ITIMER_REAL, limit_s)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)


def answer(ask: Ask, session: Session | EmbeddingSession) -> Reply:
    """Answer a question, with an error if it fails."""
    try:
        return Reply(ask.id, _answer(ask.question, session))
    except CupolaError as error:
        return Reply(ask.id, to_wire(error))
    except Exception as error:
        logger.exception("Answering a question failed")
        return Reply(ask.id, to_wire(WorkerError(detail=f"The model failed: {type(error).__name__}: {error}")))


def _answer(
    question: TokenizeText | DetokenizeTokens | EmbedTexts, session: Session | EmbeddingSession
) -> Tokens | Text | Embeddings | WireError:
    match question:
        case TokenizeText(prompt):
            return Tokens(tuple(_prompt_tokens(prompt, session.tokenizer)))
        case DetokenizeTokens(tokens):
            return Text(b"".join(map(session.tokenizer.token_bytes, tokens)).decode("utf-8", "replace"))
        case EmbedTexts() if isinstance(session, EmbeddingSession):
            return _embeddings(question, session)
        case _:
            raise InvalidParameterError(param="model", detail="This is not an embedding model.")


def _prompt_tokens(prompt: ChatPrompt | TextPrompt, tokenizer: Tokenizer) -> list[int]:
    return tokenizer.render(prompt) if isinstance(prompt, ChatPrompt) else tokenizer.encode(prompt.text)


def _embeddings(question: EmbedTexts, session: EmbeddingSession) -> Embeddings:
    inputs = [_input_tokens(value, session.tokenizer) for value in question.inputs]
    for index, tokens in enumerate(inputs):
        if not tokens:
            raise InvalidParameterError(param=f"input[{index}]", detail="An input must not be empty.")
        if len(tokens) > session.context_length:
            detail = (
                f"An input has {len(tokens)} tokens; the limit of this model is {session.context_length}. Split it."
            )
            raise InvalidParameterError(param=f"input[{index}]", detail=detail)
    wanted = question.dimensions or session.dimensions
    if wanted > session.dimensions:
        detail = f"This model's vectors have {session.dimensions} dimensions; {wanted} were requested."
        raise InvalidParameterError(param="dimensions", detail=detail)
    vectors = tuple(_pack(vector[:wanted]) for vector in session.embed(inputs))
    return Embeddings(vectors, sum(map(len, inputs)))


def _input_tokens(value: str | tuple[int, ...], tokenizer: Tokenizer) -> Sequence[int]:
    return tokenizer.encode(value) if isinstance(value, str) else value


def _pack(vector: Sequence[float]) -> bytes:
    """Normalise a possibly truncated vector to L2 norm 1, and pack it as little-endian float32."""
    length = math.sqrt(math.fsum(value * value for value in vector)) or 1.0
    packed = array("f", [value / length for value in vector])
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tobytes()


def import_provider(reference: str, name: str, settings: Settings) -> ExecutionProvider | None:
    """Import a plugin and return the provider of that name that it brings; None if it brings none.

    Args:
        reference: The plugin, "module" or "module:attribute".
        name: "OpenVINOExecutionProvider".
        settings: Handed to the plugin's hook.
    """
    module, _, attribute = reference.partition(":")
    plugin = importlib.import_module(module)
    manager = plugin_manager()
    manager.register(getattr(plugin, attribute) if attribute else plugin)
    for providers in manager.hook.execution_providers(settings=settings):
        for provider in providers:
            if isinstance(provider, ExecutionProvider) and provider.name == name:
                return provider
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""A plugin with a provider that needs no model: it answers with the prompt, and misbehaves on request.

A token is the code point of a character. The last word of a prompt may be a command: `hang`, `die`, `raise` happen in
the first step of the answer; `slow` makes every step take 20 ms. Folder names do the same for loading: `load-fails`,
`load-dies`, `load-hangs`.
"""

import os
import signal
import threading
from pathlib import Path

import msgspec

from cupola import hookimpl
from cupola.errors import LoadError, RequestError
from cupola.frontend import Device
from cupola.provider import EmbeddingSession, ExecutionProvider, ProviderReport, Session, TokenEvent, Tokenizer


class Characters(Tokenizer):
    def render(self, prompt):
        if not prompt.messages:
            raise RequestError(detail="the template wants messages")
        return self.encode("".join(message.content for message in prompt.messages))

    def encode(self, text):
        return [ord(character) for character in text]

    def stream(self, *, special=False):
        return CharacterStream()


class CharacterStream:
    def push(self, token):
        return chr(token)

    def flush(self):
        return ""


class EchoSession(Session):
    kind, reason, context_length = "generator", "it only echoes", 4096

    def __init__(self, capacity):
        self.capacity = capacity
        self.tokenizer = Characters()
        self.turns = {}

    def admit(self, turn):
        text = "".join(map(chr, turn.prompt))
        wanted = list(turn.prompt) if "forever" not in text else [ord("x")] * turn.max_tokens
        self.turns[turn.id] = (text.split()[-1:], wanted[: turn.max_tokens], len(wanted) > turn.max_tokens)

    def step(self):
        events = []
        for turn_id, (command, left, cut) in list(self.turns.items()):
            misbehave(command)
            token = left.pop(0)
            finish = None if left else ("length" if cut else "stop")
            events.append(TokenEvent(turn_id, (token,), finish=finish, cached_tokens=1))
            if not left:
                del self.turns[turn_id]
        return events

    def cancel(self, turn_id):
        self.turns.pop(turn_id, None)


class EchoEmbeddings(EmbeddingSession):
    context_length, dimensions = 16, 4

    def __init__(self):
        self.tokenizer = Characters()

    def embed(self, inputs):
        return [[float(one[0]), float(len(one)), 0.0, 1.0] for one in inputs]


def misbehave(command):
    match command:
        case ["hang"]:
            threading.Event().wait()
        case ["die"]:
            os.kill(os.getpid(), signal.SIGKILL)
        case ["raise"]:
            raise RuntimeError("it was told to")
        case ["slow"]:
            threading.Event().wait(0.02)


class EchoOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    capacity: int = 1
    nodes: dict[str, int] = {}


class EchoProvider(ExecutionProvider):
    name = "EchoExecutionProvider"
    device_types = ("CPU",)
    options_type = EchoOptions

    def environment(self, options):
        return {"ECHO_CAPACITY": str(options.capacity)}

    def probe(self):
        return ProviderReport(self.name, (Device(self.name, "CPU", "echo"),))

    def load(self, model, device, options, limits):
        match Path(model.path).name:
            case "load-fails":
                raise LoadError(model=model.id, detail="it was told to fail")
            case "load-dies":
                print("goodbye", file=__import__("sys").stderr)
                os._exit(3)
            case "load-hangs":
                threading.Event().wait()
            case "embeds":
                return EchoEmbeddings()
        assert os.environ["ECHO_CAPACITY"] == str(options.capacity)
        session = EchoSession(options.capacity)
        session.nodes = options.nodes
        return session


@hookimpl
def execution_providers(settings):
    return [EchoProvider()]

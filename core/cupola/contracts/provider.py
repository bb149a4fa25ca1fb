"""The contracts of execution providers. Everything here runs inside a worker process, unless it says otherwise."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Protocol

from msgspec import Struct

from cupola.contracts.models import DeviceType, ModelInfo
from cupola.errors import WireError
from cupola.messages import ChatPrompt, FinishReason, Guidance, Sampling


class Device(Struct, frozen=True):
    """One device that a provider can use. `index` counts among the devices of that type and provider.

    `memory_bytes` is all that it has, 0 if that is not known; `free_bytes` what of it is free, which the engine fills
    in before it places a model.
    """

    provider: str
    type: DeviceType
    name: str = ""
    index: int = 0
    memory_bytes: int = 0
    free_bytes: int | None = None


class ProviderReport(Struct, frozen=True):
    """What a provider found on this machine: its devices, or why there are none and what mends it.

    Attributes:
        versions: Of the libraries that it works with, by name.
        problem: A sentence; "" if it is usable.
        remedy: The one command or address that mends it.
    """

    provider: str
    devices: tuple[Device, ...] = ()
    versions: dict[str, str] = {}
    problem: str = ""
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """Where a model lies. `path` holds genai_config.json."""

    id: str
    path: Path


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds the session must keep.

    Attributes:
        context_length: Upper bound in tokens; None means the model's own.
        prefill_chunk: Most prompt tokens computed in one step, so that others and cancellations get their turn.
    """

    context_length: int | None = None
    prefill_chunk: int = 256


class TextStream(Protocol):
    """Turns the tokens of one answer into text, a token at a time."""

    def push(self, token: int) -> str:
        """Add a token; returns the text that is now certain (whole UTF-8 characters only)."""

    def flush(self) -> str:
        """Return what is left at the end, with U+FFFD for bytes that never became a character."""


class Tokenizer(ABC):
    """Text to tokens and back, for one model. Called by the worker's loop, on its one thread."""

    @abstractmethod
    def render(self, prompt: ChatPrompt) -> list[int]:
        """Render a chat with the model's template and tokenize it.

        Special tokens written by the template count as such; the same characters inside a message do not.

        Raises:
            RequestError: The template refuses these messages; the detail is the template's own.
        """

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """Tokenize raw text. Nothing in it becomes a special token."""

    def token_bytes(self, token: int) -> bytes:
        """Return what one token stands for, as UTF-8; not always whole characters. Called for log probabilities.

        The default decodes the token alone, so bytes that are no whole character come out as U+FFFD.
        """
        stream = self.stream()
        return (stream.push(token) + stream.flush()).encode()

    @property
    def template(self) -> str:
        """The chat template's source; empty where there is none."""
        return ""

    @abstractmethod
    def stream(self, *, special: bool = False) -> TextStream:
        """Open a decoder for one answer. Special tokens come out as nothing, or as they are written if `special`."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One generation, ready to run: `len(prompt) + max_tokens` fits the session's context.

    The fields are those of `GenerateRequest`; stop strings are not here, because text is the worker's affair.
    """

    id: int
    prompt: Sequence[int]
    max_tokens: int
    sampling: Sampling = field(default_factory=Sampling)
    ignore_eos: bool = False
    min_tokens: int = 0
    stop_token_ids: frozenset[int] = frozenset()
    guidance: Guidance | None = None
    top_logprobs: int | None = None


@dataclass(frozen=True, slots=True)
class Logprob:
    """Log probabilities at one position: of the chosen token, and of the likeliest ones, best first."""

    token: int
    logprob: float
    top: Sequence[tuple[int, float]] = ()


@dataclass(frozen=True, slots=True)
class TokenEvent:
    """What one step did for one turn.

    Attributes:
        tokens: New tokens of the answer, the one that ends it excluded; empty while the prompt is computed.
        finish: Set on the turn's last event: "stop" for an end-of-sequence or stop token or the end of what guidance
            allows, "length" at `max_tokens`.
        stop_token: The one of the turn's `stop_token_ids` that ended it.
        logprobs: One per token, if the turn asks for them.
        cached_tokens: Prompt tokens found in the KV cache; meaningful from the first event on.
        error: The turn failed alone; its last event.
    """

    turn_id: int
    tokens: Sequence[int] = ()
    finish: FinishReason | None = None
    cached_tokens: int = 0
    error: WireError | None = None
    stop_token: int | None = None
    logprobs: Sequence[Logprob] = ()


class Session(ABC):
    """A loaded model. One owner thread calls everything; nothing else touches it.

    The worker's loop admits turns while fewer than `capacity` are active, and calls `step` as long as any is. A step
    is one forward pass: at most `Limits.prefill_chunk` prompt tokens or one token for every active turn, so that
    cancellation and fairness work between steps. A batching provider advances all turns in a step, a simple one
    keeps `capacity = 1`::

        class Echo(Session):
            kind, reason, capacity, context_length = "generator", "the only kind it has", 1, 2048

            def __init__(self, tokenizer):
                self.tokenizer, self.turn, self.left = tokenizer, None, []

            def admit(self, turn):
                self.turn, self.left = turn, list(turn.prompt)[: turn.max_tokens]

            def step(self):
                token = self.left.pop(0)
                return [TokenEvent(self.turn.id, (token,), finish=None if self.left else "stop")]

            def cancel(self, turn_id):
                self.left = []

    `step` may raise: the worker then fails every active turn with that error and carries on with the next.

    `nodes`, where a session has it, says how many nodes of the model's graph each ONNX Runtime execution provider took.
    The worker refuses a model whose provider took less than the setting models.min_provider_share.
    """

    kind: str
    reason: str
    capacity: int
    context_length: int
    tokenizer: Tokenizer
    threads: int = 0
    layout: str = ""
    nodes: Mapping[str, int] = MappingProxyType({})

    def check(self, turn: Turn) -> None:  # noqa: B027 - a session may take every turn
        """Look at a turn before it is accepted, while it can still be refused as a bad request.

        Raises:
            RequestError: It can never run: a token that is not in the vocabulary, a schema that is none.
        """

    @abstractmethod
    def admit(self, turn: Turn) -> None:
        """Take a turn in. Cheap: computing happens in `step`."""

    @abstractmethod
    def step(self) -> Sequence[TokenEvent]:
        """Run one forward pass and report it, at least one event per turn that advanced."""

    @abstractmethod
    def cancel(self, turn_id: int) -> None:
        """Forget a turn at once; it gets no further event. Unknown ids are ignored."""

    def close(self) -> None:  # noqa: B027 - a default that does nothing is the point
        """Free what `load` took. The process ends soon afterwards."""


class EmbeddingSession(ABC):
    """A loaded embedding model. One owner thread calls everything.

    Attributes:
        context_length: Most tokens of one input.
        dimensions: Length of a vector.
    """

    kind: str = "embedding"
    reason: str = "it is an embedding model"
    context_length: int
    dimensions: int
    tokenizer: Tokenizer
    threads: int = 0
    layout: str = ""
    nodes: Mapping[str, int] = MappingProxyType({})

    @abstractmethod
    def embed(self, inputs: Sequence[Sequence[int]]) -> Sequence[Sequence[float]]:
        """Return one vector of length 1 (L2) and `dimensions` numbers per input, each of at most `context_length`."""

    def close(self) -> None:  # noqa: B027 - a default that does nothing is the point
        """Free what `load` took."""


class NoOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """The options of a provider that has none."""


class ExecutionProvider(ABC):
    """Runs models on one kind of device through one ONNX Runtime execution provider.

    The object is made in the service process as well, to learn its names, so the module that defines it imports no
    runtime at the top. Every method but `environment` is called inside a worker process::

        class MyProvider(ExecutionProvider):
            name = "MyExecutionProvider"
            device_types = ("GPU",)

            def probe(self):
                return ProviderReport(self.name, (Device(self.name, "GPU", "My accelerator"),))

            def load(self, model, device, options, limits):
                return MySession(model.path, device.index, limits)

    Attributes:
        name: As ONNX Runtime and the catalogs call it, "OpenVINOExecutionProvider".
        device_types: What it can run on, in order of preference.
        requirements: What it needs beside Cupola's core and providers packages, as pip takes it, with environment
            markers: `"onnxruntime-ep-openvino==1.8.1; sys_platform == 'linux' and platform_machine == 'x86_64'"`.
            Pin what was tried, the ONNX Runtime included. If there are any, the provider lives in an environment of
            its own, which `cupola provider install ALIAS` makes from those that apply to the machine; where none
            applies, the provider is not made for the machine. Without any it runs in the service's own environment.
        prerequisites: A sentence about what pip cannot bring, such as a driver or a vendor's software, with the place
            where it is to be had. Shown where the provider is listed and where it finds no device.
        options_type: The Struct its options are decoded to, from `[providers.<alias>]` of the settings. Unknown
            keys and wrong types are errors at start, so a Struct with `forbid_unknown_fields=True`.
    """

    name: ClassVar[str]
    device_types: ClassVar[tuple[DeviceType, ...]]
    requirements: ClassVar[tuple[str, ...]] = ()
    prerequisites: ClassVar[str] = ""
    options_type: ClassVar[type[Struct]] = NoOptions

    @property
    def alias(self) -> str:
        """The short name people type: "openvino"."""
        return self.name.removesuffix("ExecutionProvider").lower()

    def environment(self, options: Any) -> Mapping[str, str]:  # noqa: ARG002 - for those who override it
        """Return environment variables that must be set before a worker starts. Called in the service process."""
        return {}

    @abstractmethod
    def probe(self) -> ProviderReport:
        """Find the devices. Never raises for missing hardware: that is what the report is for.

        Called in a process of its own, with a time limit, and remembered until what is installed changes.
        """

    @abstractmethod
    def load(self, model: ModelFiles, device: Device, options: Any, limits: Limits) -> Session | EmbeddingSession:
        """Load a model.

        Raises:
            LoadError, ModelFormatError: The sentence reaches the user.
        """


class Placement(Struct, frozen=True):
    """The decision which variant runs where. The device is one of those that were offered."""

    variant: ModelInfo
    device: Device

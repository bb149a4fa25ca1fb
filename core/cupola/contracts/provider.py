"""The contract of execution providers. All methods run inside a worker process unless stated otherwise."""

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
    """A device that a provider can use.

    Attributes:
        provider: The provider's name.
        type: "CPU", "GPU" or "NPU".
        name: Name for display.
        index: Index among the provider's devices of that type, from 0.
        memory_bytes: Total memory; 0 if unknown.
        free_bytes: Free memory, filled in by the engine before placement; None if unknown.
    """

    provider: str
    type: DeviceType
    name: str = ""
    index: int = 0
    memory_bytes: int = 0
    free_bytes: int | None = None


class ProviderReport(Struct, frozen=True):
    """The result of a provider's probe: its devices, or why it has none and how to fix that.

    Attributes:
        provider: The provider's name.
        devices: The devices found, best first.
        versions: Versions of the provider's libraries, by name.
        problem: Why the provider is unusable, as a sentence; "" if it is usable.
        remedy: The command or address that fixes the problem.
    """

    provider: str
    devices: tuple[Device, ...] = ()
    versions: dict[str, str] = {}
    problem: str = ""
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """The files of a model: its id, and the folder with its genai_config.json."""

    id: str
    path: Path


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits that a session must respect.

    Attributes:
        context_length: Maximum context length in tokens; None uses the model's own.
        prefill_chunk: Maximum number of prompt tokens per step, so that other turns and cancellations can interleave.
    """

    context_length: int | None = None
    prefill_chunk: int = 256


class TextStream(Protocol):
    """Decodes the tokens of one answer to text incrementally."""

    def push(self, token: int) -> str:
        """Add a token and return the new text. Incomplete UTF-8 characters are held back."""

    def flush(self) -> str:
        """Return the remaining text at the end, with U+FFFD for bytes of incomplete characters."""


class Tokenizer(ABC):
    """The tokenizer of one model. The worker's loop calls it, always on the same thread."""

    @abstractmethod
    def render(self, prompt: ChatPrompt) -> list[int]:
        """Render a chat with the model's template and tokenize it.

        Special tokens that the template writes become special tokens; the same characters in a message do not.

        Raises:
            RequestError: The template rejects these messages; the detail is the template's own message.
        """

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """Tokenize raw text without recognizing special tokens in it."""

    def token_bytes(self, token: int) -> bytes:
        """Return the bytes of one token, which need not be whole UTF-8 characters. Called for log probabilities.

        The default implementation decodes the token alone, so incomplete characters become U+FFFD.
        """
        stream = self.stream()
        return (stream.push(token) + stream.flush()).encode()

    @property
    def template(self) -> str:
        """The source of the chat template; empty if there is none."""
        return ""

    @abstractmethod
    def stream(self, *, special: bool = False) -> TextStream:
        """Create a decoder for one answer. It skips special tokens unless `special` is set."""


@dataclass(frozen=True, slots=True)
class Turn:
    """A tokenized request, ready to run: `len(prompt) + max_tokens` fits the session's context length.

    The fields correspond to those of `GenerateRequest`. Stop strings are absent because the worker's loop, which
    decodes the text, handles them.

    Attributes:
        id: Identifies the turn in events and `cancel`.
        prompt: Token ids.
        max_tokens: Maximum number of tokens to generate.
        sampling: Sampling parameters; None in a field means the model's default.
        ignore_eos: Whether end-of-sequence tokens do not end the turn.
        min_tokens: Number of tokens before which the turn cannot end.
        stop_token_ids: Further tokens that end the turn.
        guidance: A schema, grammar or list of choices that constrains the answer.
        top_logprobs: Number of alternatives to report per token; None reports no log probabilities.
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
    """Log probabilities (natural) at one position: of the chosen token, and of the most likely ones, best first."""

    token: int
    logprob: float
    top: Sequence[tuple[int, float]] = ()


@dataclass(frozen=True, slots=True)
class TokenEvent:
    """The result of one step for one turn.

    Attributes:
        turn_id: The turn's id.
        tokens: New token ids, without the one that ends the answer; empty during prefill.
        finish: Set on the turn's last event: "stop" for an end-of-sequence or stop token or a completed grammar,
            "length" at `max_tokens`.
        cached_tokens: The number of prompt tokens found in the KV cache, from the first event on.
        error: Set on the last event of a turn that failed by itself.
        stop_token: The token of `stop_token_ids` that ended the turn.
        logprobs: One per token, if the turn asks for them.
    """

    turn_id: int
    tokens: Sequence[int] = ()
    finish: FinishReason | None = None
    cached_tokens: int = 0
    error: WireError | None = None
    stop_token: int | None = None
    logprobs: Sequence[Logprob] = ()


class Session(ABC):
    """A loaded model that generates text. All methods are called on the same thread.

    The worker's loop admits turns while fewer than `capacity` are active, and calls `step` while any turn is active.
    A step is one forward pass over at most `Limits.prefill_chunk` prompt tokens, or one token for every active turn.
    Cancellation and fairness work between steps. A batching provider advances all turns in one step; a simple one
    has `capacity = 1`::

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

    If `step` raises, the worker fails all active turns with that error and continues with the next turns.

    Attributes:
        kind: The kind of session, such as "slots" or "generator", for status listings.
        reason: Why this kind was chosen, for status listings.
        capacity: The maximum number of active turns.
        context_length: Maximum length of prompt and answer together, in tokens.
        tokenizer: The model's tokenizer.
        threads: Compute threads; 0 if unknown.
        layout: The storage format of the weights; empty if unknown.
        nodes: How many nodes of the graph ONNX Runtime assigned to each execution provider; empty if unknown. The
            worker refuses a model whose provider took less than the setting `models.min_provider_share`.
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
        """Validate a turn before it is accepted, while the request can still be rejected.

        Raises:
            RequestError: The turn can never run, for example because of a token id outside the vocabulary or an
                invalid schema.
        """

    @abstractmethod
    def admit(self, turn: Turn) -> None:
        """Add a turn. Must be cheap; computation happens in `step`."""

    @abstractmethod
    def step(self) -> Sequence[TokenEvent]:
        """Run one forward pass and return at least one event for every turn that advanced."""

    @abstractmethod
    def cancel(self, turn_id: int) -> None:
        """Drop a turn immediately; it gets no further events. Unknown ids are ignored."""

    def close(self) -> None:  # noqa: B027 - a default that does nothing is the point
        """Free the session's resources. The process exits soon afterwards."""


class EmbeddingSession(ABC):
    """A loaded embedding model. All methods are called on the same thread.

    Attributes:
        context_length: Maximum length of one input, in tokens.
        dimensions: Length of a vector.
        tokenizer, threads, layout, nodes: As in `Session`.
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
        """Return one vector of `dimensions` numbers with L2 norm 1 per input.

        Args:
            inputs: Token ids, at most `context_length` per input.
        """

    def close(self) -> None:  # noqa: B027 - a default that does nothing is the point
        """Free the session's resources."""


class NoOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """The options of a provider without options."""


class ExecutionProvider(ABC):
    """Runs models through one ONNX Runtime execution provider.

    The service process creates the object too, to read its attributes, so its module must not import a runtime at the
    top. All methods except `environment` are called inside a worker process::

        class MyProvider(ExecutionProvider):
            name = "MyExecutionProvider"
            device_types = ("GPU",)

            def probe(self):
                return ProviderReport(self.name, (Device(self.name, "GPU", "My accelerator"),))

            def load(self, model, device, options, limits):
                return MySession(model.path, device.index, limits)

    Attributes:
        name: Its name in ONNX Runtime and in catalogs, such as "OpenVINOExecutionProvider".
        device_types: The device types it can use, in order of preference.
        requirements: pip requirements besides Cupola's core and providers packages, with environment markers:
            `"onnxruntime-ep-openvino==1.8.1; sys_platform == 'linux' and platform_machine == 'x86_64'"`. Pin the tested
            versions, including ONNX Runtime. A provider with requirements lives in its own environment, which
            `cupola provider install ALIAS` creates from those that apply to the machine; if none applies, the provider
            does not support the machine. A provider without requirements runs in the service's environment.
        prerequisites: A sentence about what pip cannot install, such as a driver, and where to get it. Shown in
            listings and when the provider finds no device.
        options_type: The Struct that `[providers.<alias>]` of the settings is decoded to. Use
            `forbid_unknown_fields=True`, so that unknown keys are errors at start.
    """

    name: ClassVar[str]
    device_types: ClassVar[tuple[DeviceType, ...]]
    requirements: ClassVar[tuple[str, ...]] = ()
    prerequisites: ClassVar[str] = ""
    options_type: ClassVar[type[Struct]] = NoOptions

    @property
    def alias(self) -> str:
        """The short name for settings and commands, such as "openvino"."""
        return self.name.removesuffix("ExecutionProvider").lower()

    def environment(self, options: Any) -> Mapping[str, str]:  # noqa: ARG002 - for those who override it
        """Return environment variables to set before a worker starts. Called in the service process."""
        return {}

    @abstractmethod
    def probe(self) -> ProviderReport:
        """Detect the devices. Missing hardware or drivers are reported, not raised.

        Called in a separate process with a time limit. The result is cached until the installed packages change.
        """

    @abstractmethod
    def load(self, model: ModelFiles, device: Device, options: Any, limits: Limits) -> Session | EmbeddingSession:
        """Load a model.

        Raises:
            LoadError, ModelFormatError: The message is shown to the user.
        """


class Placement(Struct, frozen=True):
    """The variant to load and the device to load it on; both come from the arguments of `place_model`."""

    variant: ModelInfo
    device: Device

"""What a catalog says about a model, and what the engine knows of it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from msgspec import Struct

from cupola.messages import SessionReport

DeviceType = Literal["CPU", "GPU", "NPU"]


class PromptTemplate(Struct, frozen=True, omit_defaults=True):
    """How catalogs of the first generation describe a chat template; models bring a real one of their own."""

    system: str = ""
    user: str = ""
    assistant: str = ""
    prompt: str = ""


class ModelInfo(Struct, frozen=True, omit_defaults=True):
    """One variant of a model, as a catalog source describes it: one set of files for one kind of device.

    Attributes:
        id: Name and version, "phi-4-generic-cpu:3". Unique over all sources.
        alias: What people type; the variants of one model share it.
        publisher: Also the first folder of the model in the cache.
        size_bytes: Disk space of the installed files.
        context_length: In tokens; 0 if the catalog does not say.
        max_output_tokens: Longest answer the publisher recommends; None if not said.
        license: SPDX expression, where there is one.
        uri: The source's own name for it, "azureml://registries/...".
        parent: Id of the model that this is a variant of, where the catalog tells.
        parent_uri: The source's own name for that one.
        min_version: Release of Foundry Local that the publisher asks for at least; what needs more is not listed.
        tool_call_start, tool_call_end, reasoning_start, reasoning_end: Texts around those parts of an answer.
        model_settings: Names and values that the publisher recommends for generation.
        is_test: The publisher offers it for tests only.
        quantization: Methods that made it small, such as "RTN".
        device_memory_bytes: Memory of the device that it takes when loaded; 0 if not said.
    """

    id: str
    alias: str
    source: str
    publisher: str
    display_name: str = ""
    task: str = "chat-completion"
    device: DeviceType = "CPU"
    provider: str = "CPUExecutionProvider"
    size_bytes: int = 0
    context_length: int = 0
    max_output_tokens: int | None = None
    license: str = ""
    license_description: str = ""
    supports_tool_calling: bool = False
    created_unix: int = 0
    uri: str = ""
    parent: str = ""
    parent_uri: str = ""
    model_type: str = "ONNX"
    min_version: str = ""
    prompt_template: PromptTemplate | None = None
    supports_reasoning: bool = False
    tool_call_start: str = ""
    tool_call_end: str = ""
    reasoning_start: str = ""
    reasoning_end: str = ""
    model_settings: tuple[tuple[str, str], ...] = ()
    is_test: bool = False
    input_modalities: tuple[str, ...] = ()
    output_modalities: tuple[str, ...] = ()
    capabilities: tuple[str, ...] = ()
    quantization: tuple[str, ...] = ()
    device_memory_bytes: int = 0

    @property
    def name(self) -> str:
        """The id without its version."""
        return self.id.rpartition(":")[0] or self.id

    @property
    def version(self) -> int:
        """The number behind the colon; 0 when there is none."""
        tail = self.id.rpartition(":")[2]
        return int(tail) if ":" in self.id and tail.isdigit() else 0


class RemoteFile(Struct, frozen=True):
    """One file to download. `path` is relative to the model's folder, with forward slashes; digests are in hex.

    `sha256` is checked if it is there, else `md5`, else the size alone.
    """

    path: str
    size_bytes: int
    url: str
    sha256: str = ""
    md5: str = ""


class ProgressEvent(Struct, frozen=True):
    """How far a long piece of work is. `phase` is a word such as "download" or "import"; 0 total means unknown."""

    phase: str
    done: int
    total: int
    unit: str = "bytes"


Progress = Callable[[ProgressEvent], None]


class DownloadStatus(Struct, frozen=True):
    """A download as the engine sees it now.

    Attributes:
        state: "running", or how it ended; a failed or cancelled one goes on from where it was when started again.
        progress: Its last word.
        per_s: How much of the progress' unit arrived per second lately.
        remaining_s: Estimated; None while nothing can be said.
        waiting: How many wait for it.
        detached: Whether it goes on when nobody does.
        error: Why it failed.
    """

    info: ModelInfo
    state: Literal["running", "done", "failed", "cancelled"]
    progress: ProgressEvent
    per_s: float = 0.0
    remaining_s: float | None = None
    waiting: int = 0
    detached: bool = False
    error: str = ""


@dataclass(frozen=True, slots=True)
class CachedModel:
    """A whole model on this machine. `path` is the folder that holds its genai_config.json."""

    info: ModelInfo
    path: Path
    size_bytes: int


class ModelStatus(Struct, frozen=True):
    """A model as the engine sees it now."""

    info: ModelInfo
    cached: bool
    loaded: bool


class ResidentStatus(Struct, frozen=True):
    """A loaded model. Times in seconds; `expires_in_s` is None while turns run or when it never expires.

    `memory_bytes` is what its worker takes now, as measured; a pinned one is not unloaded to make room for others.
    """

    info: ModelInfo
    report: SessionReport
    pid: int
    turns: int
    ttl_s: float | None
    expires_in_s: float | None
    memory_bytes: int = 0
    pinned: bool = False

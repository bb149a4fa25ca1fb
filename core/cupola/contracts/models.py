"""Models as catalogs describe them, and their state in the engine."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from msgspec import Struct

from cupola.messages import SessionReport

DeviceType = Literal["CPU", "GPU", "NPU"]


class PromptTemplate(Struct, frozen=True, omit_defaults=True):
    """A chat template in the form of first-generation catalogs. Models include a complete template themselves."""

    system: str = ""
    user: str = ""
    assistant: str = ""
    prompt: str = ""


class ModelInfo(Struct, frozen=True, omit_defaults=True):
    """A model variant: one set of files for one type of device, as described by a catalog source.

    Attributes:
        id: Name and version, such as "phi-4-generic-cpu:3". Unique across all sources.
        alias: The short name that users type. All variants of a model share it.
        source: The name of the catalog source.
        publisher: The publisher; also the first folder of the model's path in the cache.
        display_name: Name for listings; may be empty.
        task: Such as "chat-completion" or "embeddings".
        device: The device type it is made for.
        provider: The execution provider it is made for.
        size_bytes: Disk space of the installed files.
        context_length: Context length in tokens; 0 if unknown.
        max_output_tokens: Longest answer that the publisher recommends, in tokens; None if unknown.
        license: SPDX expression, if there is one.
        license_description: The license in words, or where to find it.
        supports_tool_calling: Whether the model was trained to call tools.
        created_unix: Time of publication in seconds since 1970; 0 if unknown.
        uri: The source's identifier, such as "azureml://registries/...".
        parent: Id of the model that this is a variant of, if known.
        parent_uri: The source's identifier of that model.
        model_type: The file format, "ONNX".
        min_version: The minimum version of Foundry Local it requires. Models beyond our level are not listed.
        prompt_template: The template of a first-generation catalog entry.
        supports_reasoning: Whether the model reasons before it answers.
        tool_call_start, tool_call_end, reasoning_start, reasoning_end: Markers around those parts of the text.
        model_settings: Generation settings that the publisher recommends, as names and values.
        is_test: Whether the publisher provides it for tests only.
        input_modalities, output_modalities: Such as "text".
        capabilities: Further capabilities, in the catalog's terms.
        quantization: Quantization methods, such as "RTN".
        device_memory_bytes: Device memory that the loaded model needs; 0 if unknown.
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
        """The number after the colon; 0 if there is none."""
        tail = self.id.rpartition(":")[2]
        return int(tail) if ":" in self.id and tail.isdigit() else 0


class RemoteFile(Struct, frozen=True):
    """A file to download.

    Attributes:
        path: Path relative to the model's folder, with forward slashes.
        size_bytes: Exact size.
        url: Where to download it.
        sha256: Hex digest, which is verified if given.
        md5: Hex digest, which is verified if there is no `sha256`. Without either, only the size is checked.
    """

    path: str
    size_bytes: int
    url: str
    sha256: str = ""
    md5: str = ""


class ProgressEvent(Struct, frozen=True):
    """Progress of a long operation.

    Attributes:
        phase: The current phase, such as "download" or "import".
        done: Amount done, in `unit`.
        total: Total amount, in `unit`; 0 if unknown.
        unit: What is counted.
    """

    phase: str
    done: int
    total: int
    unit: str = "bytes"


Progress = Callable[[ProgressEvent], None]


class DownloadStatus(Struct, frozen=True):
    """The state of a download.

    Attributes:
        info: The model.
        state: "running", or how it ended. A failed or cancelled download resumes when it is started again.
        progress: The latest progress.
        per_s: Recent rate, in units of the progress per second.
        remaining_s: Estimated remaining time in seconds; None if unknown.
        waiting: The number of callers waiting for it.
        detached: Whether it continues without any caller waiting.
        error: Why it failed; "" otherwise.
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
    """A complete model in a cache store.

    Attributes:
        info: The model.
        path: The folder with its genai_config.json.
        size_bytes: Disk space of its files.
    """

    info: ModelInfo
    path: Path
    size_bytes: int


class ModelStatus(Struct, frozen=True):
    """A model, and whether it is cached and loaded."""

    info: ModelInfo
    cached: bool
    loaded: bool


class ResidentStatus(Struct, frozen=True):
    """A loaded model.

    Attributes:
        info: The model.
        report: The session that runs it.
        pid: Process id of its worker.
        turns: The number of running and waiting turns.
        ttl_s: Idle time in seconds before it is unloaded; None for never.
        expires_in_s: Seconds until it is unloaded; None while turns run or if it never expires.
        memory_bytes: Current memory of its worker process, as measured.
        pinned: Whether it is never unloaded to make room for other models.
    """

    info: ModelInfo
    report: SessionReport
    pid: int
    turns: int
    ttl_s: float | None
    expires_in_s: float | None
    memory_bytes: int = 0
    pinned: bool = False

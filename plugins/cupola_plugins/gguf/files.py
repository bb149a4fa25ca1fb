"""The files that an import writes, and how they are taken away again. Light: the service imports this."""

import contextlib
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

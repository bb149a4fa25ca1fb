"""Hugging Face's tokenizers with the interface of onnxruntime-genai's, which `GenaiTokenizer` uses."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer


class Encoder:
    """Encodes and decodes with a model's tokenizer.json.

    Args:
        folder: The model's folder.
    """

    def __init__(self, folder: Path) -> None:
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._adds_special = False

    def update_options(self, *, add_special_tokens: str) -> None:
        """Set whether `encode` adds special tokens, "true" or "false"."""
        self._adds_special = add_special_tokens == "true"

    def encode(self, text: str) -> NDArray[np.int64]:
        """Return the token ids of a text, int64 [tokens]."""
        return np.array(self._tokenizer.encode(text, add_special_tokens=self._adds_special).ids, np.int64)

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of token ids, with special tokens."""
        return str(self._tokenizer.decode(list(tokens), skip_special_tokens=False))

"""Hugging Face's tokenizers, in the words of onnxruntime-genai's, which `GenaiTokenizer` speaks."""

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
        """Choose whether the tokenizer adds what it wants at the beginning, "true" or "false"."""
        self._adds_special = add_special_tokens == "true"

    def encode(self, text: str) -> NDArray[np.int64]:
        """Return the tokens of a text."""
        return np.array(self._tokenizer.encode(text, add_special_tokens=self._adds_special).ids, np.int64)

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of tokens."""
        return str(self._tokenizer.decode(list(tokens), skip_special_tokens=False))

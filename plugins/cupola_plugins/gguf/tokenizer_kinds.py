"""The two kinds of tokenizers that GGUF files hold, as Hugging Face's tokenizer.json describes them.

onnxruntime-genai 0.18 reads both exactly, as compared on thousands of random texts: byte-level BPE with any expression
that splits, and SentencePiece's BPE if the class is named Gemma's and nothing splits. Its `Digits` does nothing, hence
an expression for the digits; a word that is a token is always that token, as with `ignore_merges`, which real
vocabularies cannot show. With the published vocabularies of Qwen 3 and Gemma 3, tokens of 3,000 texts were those of
Hugging Face's tokenizers, but for characters that NFC would have composed: neither this runtime nor llama.cpp does it.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_SINGLE_DIGITS = r"\p{N}"
_LATER = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_QWEN2, _LLAMA3 = _LATER % r"\p{N}", _LATER % r"\p{N}{1,3}"

SPLITS: Mapping[str, tuple[str, ...]] = {
    "gpt-2": (_GPT2,),
    "smollm": (_SINGLE_DIGITS, _GPT2),
    "qwen2": (_QWEN2,),
    "deepseek-r1-qwen": (_QWEN2,),
    "llama-bpe": (_LLAMA3,),
}
"""For each `tokenizer.ggml.pre` of byte-level BPE, the expressions that split a text, one after the other."""

SPACE = "\N{LOWER ONE EIGHTH BLOCK}"
"""What stands for a space in SentencePiece's vocabularies."""


def byte_level(ids: Mapping[str, int], merges: Sequence[Sequence[str]], splits: Sequence[str]) -> dict[str, Any]:
    """Describe a byte-level BPE, as GPT-2's.

    Args:
        ids: The vocabulary.
        merges: Pairs, as pairs: onnxruntime-genai never returns from a first merge written as text that begins with
            '#'.
        splits: Expressions.
    """
    step = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    parts = [
        {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False} for pattern in splits
    ]
    return {
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [*parts, step]},
        "decoder": step | {"add_prefix_space": True, "use_regex": True},
        "model": _bpe(ids, merges, unknown=None),
    }


def sentencepiece(
    ids: Mapping[str, int], scores: Mapping[str, float], *, unknown: str | None, prefixes_space: bool
) -> dict[str, Any]:
    """Describe a BPE of SentencePiece with bytes for what it cannot spell, as Llama 2's and Gemma's.

    Args:
        ids: The vocabulary.
        scores: Of those tokens that text is put together of; the highest is merged first.
        unknown: The token for what is none.
        prefixes_space: A text begins as if there were a space before it.
    """
    prefix = [{"type": "Prepend", "prepend": SPACE}] if prefixes_space else []
    spaces = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
    strip = [{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if prefixes_space else []
    back = {"type": "Replace", "pattern": {"String": SPACE}, "content": " "}
    return {
        "normalizer": {"type": "Sequence", "normalizers": [*prefix, spaces]},
        "pre_tokenizer": None,
        "decoder": {"type": "Sequence", "decoders": [back, {"type": "ByteFallback"}, {"type": "Fuse"}, *strip]},
        "model": _bpe(ids, list(_merges(scores)), unknown=unknown),
    }


def _merges(scores: Mapping[str, float]) -> Iterator[list[str]]:
    """Iterate over all ways to put two tokens together to a third one, best first."""
    for token in sorted(scores, key=lambda token: -scores[token]):
        for middle in range(1, len(token)):
            if token[:middle] in scores and token[middle:] in scores:
                yield [token[:middle], token[middle:]]


def _bpe(ids: Mapping[str, int], merges: Sequence[Sequence[str]], *, unknown: str | None) -> dict[str, Any]:
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": unknown,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": unknown is not None,
        "byte_fallback": unknown is not None,
        "vocab": ids,
        "merges": merges,
    }

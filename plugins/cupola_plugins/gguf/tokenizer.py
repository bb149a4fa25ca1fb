"""Converts the tokenizer of a GGUF file to the tokenizer.json of Hugging Face, which onnxruntime-genai reads.

Only tokenizers that can be reproduced exactly are accepted: with a different one, a model gives worse answers and no
error. onnxruntime-genai 0.18 was compared with references on thousands of random texts: it reads byte-level BPE with
any split expression exactly, and SentencePiece BPE if the class is GemmaTokenizer and nothing splits. Its `Digits`
pre-tokenizer has no effect, hence an expression for digits. A word that is a token always becomes that token, as with
`ignore_merges`; published vocabularies show no difference. With the vocabularies of Qwen 3 and Gemma 3, the tokens of
3,000 texts equalled those of Hugging Face's tokenizers, except for characters that NFC would compose: neither this
runtime nor llama.cpp applies NFC.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cupola.errors import ModelFormatError
from cupola_plugins.gguf import files
from cupola_plugins.gguf.container import Scalar, Value

_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED = 1, 2, 3, 4, 5
_SENTENCEPIECE = "llama"
_SPM_PRE = (None, "default")
_BYTES = tuple(f"<0x{byte:02X}>" for byte in range(256))
_END_OF_TURN_TOKENS = ("<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>")
"""Tokens that end an answer even if the file does not declare them, as in llama.cpp."""
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
"""The split expressions for each `tokenizer.ggml.pre` of byte-level BPE, in order (llama.cpp's llama-vocab.cpp)."""
SPACE = "\N{LOWER ONE EIGHTH BLOCK}"
"""The character for a space in SentencePiece vocabularies."""


class GgufTokenizer:
    """The checked tokenizer of a GGUF file.

    Attributes:
        bos_id: The token id that starts a text; None if the file has none.
        eos_ids: The token ids that end an answer, at least one.
        pad_id: The padding token id; the first of `eos_ids` if the file has none.

    Raises:
        ModelFormatError: The tokenizer is damaged, or cannot be reproduced.
    """

    def __init__(self, path: Path, metadata: Mapping[str, Value]) -> None:
        self._path = path
        self._metadata = metadata
        self._is_sentencepiece = self._supported_kind() == _SENTENCEPIECE
        self._tokens = self._texts("tokens")
        self._ids = {token: number for number, token in enumerate(self._tokens)}
        if len(self._ids) != len(self._tokens):
            raise self._refusal("is damaged: a token occurs twice in its vocabulary. Download the file again.")
        self._types = self._numbers("token_type")
        self._model = self._sentencepiece() if self._is_sentencepiece else self._byte_level()
        self.bos_id = self._token("bos_token_id")
        self.eos_ids = self._eos_ids()
        self._adds_bos = self._adds_bos_token()
        self._template = self._chat_template()
        pad_id = self._token("padding_token_id")
        self.pad_id = self.eos_ids[0] if pad_id is None else pad_id

    def write(self, folder: Path, *, context: int) -> None:
        """Write the tokenizer files, and the chat template if there is one."""
        _write_json(folder / files.TOKENIZER, self._tokenizer())
        _write_json(folder / files.TOKENIZER_CONFIG, self._config(context))
        if self._template is not None:
            (folder / files.CHAT_TEMPLATE).write_text(self._template, "utf-8", newline="")

    def _tokenizer(self) -> dict[str, Any]:
        return {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": self._added_tokens(),
            "post_processor": None,
            **self._model,
        }

    def _byte_level(self) -> dict[str, Any]:
        splits = SPLITS[str(self._metadata["tokenizer.ggml.pre"])]
        return byte_level(self._ids, self._checked_merges(), splits)

    def _sentencepiece(self) -> dict[str, Any]:
        if missing := [token for token in _BYTES if token not in self._ids]:
            raise self._refusal(f"has no token for the byte {missing[0]}, which is not supported. Use another model.")
        spelling = {
            token: score
            for token, score, kind in zip(self._tokens, self._numbers("scores"), self._types, strict=True)
            if kind in (_NORMAL, _USER_DEFINED, _UNUSED)
        }
        unknown = self._token("unknown_token_id")
        return sentencepiece(
            self._ids,
            spelling,
            unknown=self._tokens[0 if unknown is None else unknown],
            prefixes_space=self._metadata.get("tokenizer.ggml.add_space_prefix", True) is True,
        )

    def _added_tokens(self) -> list[dict[str, Any]]:
        plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
        return [
            {"id": number, "content": token, **plain, "special": kind != _USER_DEFINED}
            for number, (token, kind) in enumerate(zip(self._tokens, self._types, strict=True))
            if kind in (_CONTROL, _USER_DEFINED) or (kind == _UNKNOWN and self._is_sentencepiece)
            if not (kind == _USER_DEFINED and self._is_sentencepiece and SPACE in token)  # texts contain spaces instead
        ]

    def _config(self, context: int) -> dict[str, Any]:
        named = {
            "bos_token": self.bos_id,
            "eos_token": self.eos_ids[0],
            "pad_token": self.pad_id,
            "unk_token": self._token("unknown_token_id"),
        }
        return {
            "tokenizer_class": "GemmaTokenizer" if self._is_sentencepiece else "GPT2Tokenizer",
            **{name: self._tokens[number] for name, number in named.items() if number is not None},
            "add_bos_token": self._adds_bos,
            "add_eos_token": False,
            "model_max_length": context,
            "clean_up_tokenization_spaces": False,
            **({} if self._template is None else {"chat_template": self._template}),
        }

    def _refusal(self, detail: str) -> ModelFormatError:
        return ModelFormatError(path=str(self._path), detail=detail)

    def _supported_kind(self) -> str:
        """Return the tokenizer model, "llama" or "gpt2". Raise `ModelFormatError` for any other."""
        kind, pre = (self._metadata.get(f"tokenizer.ggml.{key}") for key in ("model", "pre"))
        known = pre in _SPM_PRE if kind == _SENTENCEPIECE else kind == "gpt2" and pre in SPLITS
        if not known:
            raise self._refusal(
                f"has the tokenizer {kind!r} with the pre-tokenizer {pre!r}, which cannot be reproduced "
                f"exactly. Supported: 'gpt2' with {' or '.join(map(repr, sorted(SPLITS)))}, and {_SENTENCEPIECE!r}."
            )
        for key in ("precompiled_charsmap", "remove_extra_whitespaces", "add_eos_token"):
            if self._metadata.get(f"tokenizer.ggml.{key}"):
                raise self._refusal(f"has a tokenizer that needs {key}, which is not supported. Use another model.")
        return str(kind)

    def _adds_bos_token(self) -> bool:
        """Tell whether texts start with the BOS token. The default is that of llama.cpp."""
        wanted = self._metadata.get("tokenizer.ggml.add_bos_token")
        if wanted is None:
            wanted = self._is_sentencepiece or self._metadata.get("tokenizer.ggml.pre") == "llama-bpe"
        if wanted and self.bos_id is None:
            raise self._refusal("sets add_bos_token but not bos_token_id. Convert the model again.")
        return bool(wanted)

    def _chat_template(self) -> str | None:
        """Return the chat template. It starts with the BOS token, which nothing adds to a rendered chat."""
        template = self._metadata.get("tokenizer.chat_template")
        if not isinstance(template, str):
            return None
        if not self._adds_bos or "bos_token" in template or self._tokens[self.bos_id or 0] in template:
            return template
        return "{{ bos_token }}" + template

    def _list(self, key: str) -> list[Scalar]:
        values = self._metadata.get(f"tokenizer.ggml.{key}")
        if not isinstance(values, list):
            raise self._refusal(f"has no list tokenizer.ggml.{key}. Convert the model again, with its tokenizer.")
        return values

    def _texts(self, key: str) -> list[str]:
        texts = [value for value in self._list(key) if isinstance(value, str)]
        if len(texts) != len(self._list(key)):
            raise self._refusal(
                f"is damaged: tokenizer.ggml.{key} holds values that are not strings. Convert the model again."
            )
        return texts

    def _numbers(self, key: str) -> list[float]:
        """Return the numbers of a list, one for each token."""
        numbers = [value for value in self._list(key) if isinstance(value, int | float) and math.isfinite(value)]
        if not len(numbers) == len(self._list(key)) == len(self._tokens):
            what = key.replace("_", " ").removesuffix("s") + "s"
            raise self._refusal(
                f"is damaged: it has {len(self._tokens)} tokens but {len(numbers)} {what}. Convert the model again."
            )
        return numbers

    def _checked_merges(self) -> list[list[str]]:
        merges = [merge.split(" ") for merge in self._texts("merges")]
        for merge in merges:
            if len(merge) != 2 or not {*merge, "".join(merge)} <= self._ids.keys():
                raise self._refusal(
                    f"is damaged: the merge {' '.join(merge)!r} is not in the vocabulary. Convert the model again."
                )
        return merges

    def _eos_ids(self) -> list[int]:
        named = [self._token(f"{name}_token_id") for name in ("eos", "eot", "eom")]
        if named[0] is None:
            raise self._refusal("does not set the end token (tokenizer.ggml.eos_token_id). Convert the model again.")
        known = [self._ids[token] for token in _END_OF_TURN_TOKENS if token in self._ids]
        return list(dict.fromkeys(number for number in (*named, *known) if number is not None))

    def _token(self, key: str) -> int | None:
        number = self._metadata.get(f"tokenizer.ggml.{key}")
        if number is not None and (not isinstance(number, int) or not 0 <= number < len(self._tokens)):
            raise self._refusal(
                f"is damaged: tokenizer.ggml.{key} = {number!r} is not a token id. Convert the model again."
            )
        return number


def byte_level(ids: Mapping[str, int], merges: Sequence[Sequence[str]], splits: Sequence[str]) -> dict[str, Any]:
    """Return the tokenizer.json sections of a byte-level BPE, like that of GPT-2.

    Args:
        ids: Token ids by token.
        merges: Pairs of tokens, best first. They are written as pairs: onnxruntime-genai hangs if the first merge is a
            string that starts with '#'.
        splits: Split expressions, applied in order.
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
    """Return the tokenizer.json sections of a SentencePiece BPE with byte fallback, like those of Llama 2 and Gemma.

    Args:
        ids: Token ids by token.
        scores: The scores of the tokens that merges may produce; the highest is merged first.
        unknown: The unknown token.
        prefixes_space: Whether a space is put before each text.
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


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False), "utf-8")


def _merges(scores: Mapping[str, float]) -> Iterator[list[str]]:
    """Iterate over all pairs of tokens that form a third token, best first."""
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

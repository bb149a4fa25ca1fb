"""The tokenizer of a GGUF file as the files that onnxruntime-genai reads.

Only tokenizers whose every step can be reproduced are accepted: with another one a model answers worse, and nothing
says why. onnxruntime-genai splits text by the expressions below exactly as Hugging Face's tokenizers do (compared on
thousands of texts), but passes over their pre-tokenizer `Digits` in silence; hence an expression for the digits.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cupola import ModelFormatError
from cupola_plugins.gguf import files
from cupola_plugins.gguf.container import Scalar, Value

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_SINGLE_DIGITS = r"\p{N}"
_SPLITS = {"gpt-2": (_GPT2,), "smollm": (_SINGLE_DIGITS, _GPT2)}
"""For each `tokenizer.ggml.pre`, the expressions that split a text, one after the other."""

_CONTROL, _USER_DEFINED = 3, 4


class GgufTokenizer:
    """What a GGUF file says about its tokenizer, checked.

    Attributes:
        bos_id: The token that begins a text; None if the file names none.
        eos_ids: The tokens that end an answer, at least one.
        pad_id: The token that fills up; the first of `eos_ids` if the file names none.

    Raises:
        ModelFormatError: It is damaged, or of a kind that cannot be reproduced.
    """

    def __init__(self, path: Path, metadata: Mapping[str, Value]) -> None:
        self._path = path
        self._metadata = metadata
        self._splits = self._supported_splits()
        self._tokens = self._texts("tokens")
        self._ids = {token: number for number, token in enumerate(self._tokens)}
        if len(self._ids) != len(self._tokens):
            raise self._refusal("is damaged: a token occurs twice in its vocabulary. Download the file again.")
        self._types = self._token_types()
        self._merges = self._checked_merges()
        self.bos_id = self._token("bos_token_id")
        self.eos_ids = self._eos_ids()
        self._template = self._chat_template()
        pad_id = self._token("padding_token_id")
        self.pad_id = self.eos_ids[0] if pad_id is None else pad_id

    def write(self, folder: Path, *, context: int) -> None:
        """Write the tokenizer's files, and the chat template where there is one."""
        _write_json(folder / files.TOKENIZER, self._tokenizer())
        _write_json(folder / files.TOKENIZER_CONFIG, self._config(context))
        if self._template is not None:
            (folder / files.CHAT_TEMPLATE).write_text(self._template, "utf-8", newline="")

    def _tokenizer(self) -> dict[str, Any]:
        byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
        splits = [
            {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
            for pattern in self._splits
        ]
        return {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": self._added_tokens(),
            "normalizer": None,
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [*splits, byte_level]},
            "post_processor": None,
            "decoder": byte_level | {"add_prefix_space": True, "use_regex": True},
            "model": {
                "type": "BPE",
                "dropout": None,
                "unk_token": None,
                "continuing_subword_prefix": None,
                "end_of_word_suffix": None,
                "fuse_unk": False,
                "byte_fallback": False,
                "vocab": self._ids,
                # As pairs: onnxruntime-genai never returns from a first merge written as text that begins with '#'.
                "merges": self._merges,
            },
        }

    def _added_tokens(self) -> list[dict[str, Any]]:
        plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
        return [
            {"id": number, "content": token, **plain, "special": kind == _CONTROL}
            for number, (token, kind) in enumerate(zip(self._tokens, self._types, strict=True))
            if kind in (_CONTROL, _USER_DEFINED)
        ]

    def _config(self, context: int) -> dict[str, Any]:
        named = {
            "bos_token": self.bos_id,
            "eos_token": self.eos_ids[0],
            "pad_token": self.pad_id,
            "unk_token": self._token("unknown_token_id"),
        }
        return {
            "tokenizer_class": "GPT2Tokenizer",
            **{name: self._tokens[number] for name, number in named.items() if number is not None},
            "add_bos_token": False,
            "add_eos_token": False,
            "model_max_length": context,
            "clean_up_tokenization_spaces": False,
            **({} if self._template is None else {"chat_template": self._template}),
        }

    def _refusal(self, detail: str) -> ModelFormatError:
        return ModelFormatError(path=str(self._path), detail=detail)

    def _supported_splits(self) -> tuple[str, ...]:
        kind, pre = (self._metadata.get(f"tokenizer.ggml.{key}") for key in ("model", "pre"))
        if kind != "gpt2" or not isinstance(pre, str) or pre not in _SPLITS:
            raise self._refusal(
                f"has a tokenizer of the kind {kind!r} with the pre-tokenizer {pre!r}, which cannot be reproduced "
                f"exactly. Supported: 'gpt2' with {' or '.join(map(repr, sorted(_SPLITS)))}."
            )
        return _SPLITS[pre]

    def _chat_template(self) -> str | None:
        """Return the template; what it does not write itself is never added, so a model that needs that is refused."""
        template = self._metadata.get("tokenizer.chat_template")
        text = template if isinstance(template, str) else None
        for key, written in (("add_bos_token", "bos_token" in (text or "")), ("add_eos_token", False)):
            if self._metadata.get(f"tokenizer.ggml.{key}") is True and not written:
                raise self._refusal(f"wants a token added to every prompt ({key}), which is not supported.")
        return text

    def _list(self, key: str) -> list[Scalar]:
        values = self._metadata.get(f"tokenizer.ggml.{key}")
        if not isinstance(values, list):
            raise self._refusal(f"lacks the list tokenizer.ggml.{key}. Convert the model anew, with its tokenizer.")
        return values

    def _texts(self, key: str) -> list[str]:
        texts = [value for value in self._list(key) if isinstance(value, str)]
        if len(texts) != len(self._list(key)):
            raise self._refusal(f"is damaged: tokenizer.ggml.{key} holds something else than texts. Convert it anew.")
        return texts

    def _token_types(self) -> list[Scalar]:
        types = self._list("token_type")
        if len(types) != len(self._tokens):
            raise self._refusal(
                f"is damaged: it has {len(self._tokens)} tokens but {len(types)} token types. Convert the model anew."
            )
        return types

    def _checked_merges(self) -> list[list[str]]:
        merges = [merge.split(" ") for merge in self._texts("merges")]
        for merge in merges:
            if len(merge) != 2 or not {*merge, "".join(merge)} <= self._ids.keys():
                raise self._refusal(f"is damaged: the merge {' '.join(merge)!r} does not fit the vocabulary.")
        return merges

    def _eos_ids(self) -> list[int]:
        named = [self._token(f"{name}_token_id") for name in ("eos", "eot", "eom")]
        if named[0] is None:
            raise self._refusal("does not say which token ends an answer (tokenizer.ggml.eos_token_id).")
        return list(dict.fromkeys(number for number in named if number is not None))

    def _token(self, key: str) -> int | None:
        number = self._metadata.get(f"tokenizer.ggml.{key}")
        if number is not None and (not isinstance(number, int) or not 0 <= number < len(self._tokens)):
            raise self._refusal(f"is damaged: tokenizer.ggml.{key} = {number!r} is no token. Convert the model anew.")
        return number


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False), "utf-8")

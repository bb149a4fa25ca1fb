"""The vocabulary in tokenizer.json: the bytes of every token, and the special tokens.

The stream of onnxruntime-genai loses text after an invalid UTF-8 sequence (observed with 0.18.0: `[a, half an emoji]`
and then " plain text" became "a", "lain text"), and its `decode` stops there. Models do emit such sequences, so answers
are decoded from token bytes with Python's incremental decoder.
"""

import codecs
import re
from pathlib import Path
from typing import Any, Protocol

import msgspec
from msgspec import Struct

from cupola.errors import ModelFormatError
from cupola_providers.runtime.config import DOWNLOAD_AGAIN

_BYTE_PIECE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class AddedToken(Struct, frozen=True):
    """A token that is matched in text before the model's own vocabulary."""

    id: int
    content: str
    special: bool = False


class _Model(Struct, frozen=True):
    vocab: dict[str, int] | list[tuple[str, float]] = {}


class TokenizerFile(Struct, frozen=True):
    """The parts of tokenizer.json that Cupola uses."""

    added_tokens: list[AddedToken] = []
    model: _Model = _Model()
    decoder: dict[str, Any] | None = None
    pre_tokenizer: dict[str, Any] | None = None


class PieceDecoder(Protocol):
    """The byte encoding of a vocabulary."""

    def __call__(self, piece: str) -> bytes:
        """Return the bytes of a vocabulary entry."""


class Vocabulary:
    """Maps token ids to bytes.

    Args:
        file: The tokenizer.json.
        control_ids: Tokens that are special even if the file does not declare them so.

    Attributes:
        specials: Special tokens, id to text.
        is_known: Whether the byte encoding is supported (GPT-2's byte level or SentencePiece). `token_bytes` may be
            used only if it is.
        strips_space: Whether the tokenizer's decoder removes one space at the start of a text.
    """

    def __init__(self, file: TokenizerFile, *, control_ids: frozenset[int] = frozenset()) -> None:
        vocab = file.model.vocab
        pairs = vocab.items() if isinstance(vocab, dict) else ((piece, token) for token, (piece, _) in enumerate(vocab))
        self._pieces = {token: piece for piece, token in pairs}
        self._added = {token.id: token.content for token in file.added_tokens}
        self.specials = {
            token.id: token.content for token in file.added_tokens if token.special or token.id in control_ids
        }
        steps = _steps(file.decoder, "decoders") or _steps(file.pre_tokenizer, "pretokenizers")
        kinds = {step.get("type") for step in steps}
        self.strips_space = False
        self._decode: PieceDecoder | None = None
        if "ByteLevel" in kinds:
            self._decode = _gpt2_bytes
        elif kinds & {"ByteFallback", "Metaspace"}:
            self._decode = _sentencepiece_bytes
            self.strips_space = any(_strips_space(step) for step in steps)
        self.is_known = self._decode is not None

    def token_bytes(self, token: int) -> bytes:
        """Return the bytes of a token; empty for special and unknown tokens."""
        if token in self.specials:
            return b""
        if token in self._added:
            return self._added[token].encode()
        piece = self._pieces.get(token)
        if piece is None or self._decode is None:
            return b""
        return self._decode(piece)


class ByteStream:
    """A `TextStream` over token bytes. It emits complete characters only, and U+FFFD for invalid bytes.

    Args:
        vocabulary: The bytes of all tokens.
        special: Whether to emit the text of special tokens.
    """

    def __init__(self, vocabulary: Vocabulary, *, special: bool = False) -> None:
        self._vocabulary = vocabulary
        self._special = {token: text.encode() for token, text in vocabulary.specials.items()} if special else {}
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._strip = vocabulary.strips_space

    def push(self, token: int) -> str:
        """Add a token; returns the completed text."""
        data = self._special.get(token) or self._vocabulary.token_bytes(token)
        if self._strip and data:
            data, self._strip = data.removeprefix(b" "), False
        return self._decoder.decode(data)

    def flush(self) -> str:
        """Return the remaining text; U+FFFD for an incomplete character."""
        return self._decoder.decode(b"", final=True)


def read_tokenizer_file(folder: Path) -> TokenizerFile:
    """Read the tokenizer.json of a model.

    Raises:
        ModelFormatError: The file is missing or damaged.
    """
    path = folder / "tokenizer.json"
    try:
        return msgspec.json.decode(path.read_bytes(), type=TokenizerFile)
    except OSError as error:
        problem = f"the file cannot be read ({error.strerror})"
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        problem = f"the file is damaged ({error})"
    raise ModelFormatError(path=str(path), detail=f"{problem}. {DOWNLOAD_AGAIN}")


def _steps(section: dict[str, Any] | None, children: str) -> list[dict[str, Any]]:
    if section is None:
        return []
    return list(section.get(children, [])) if section.get("type") == "Sequence" else [section]


def _strips_space(step: dict[str, Any]) -> bool:
    if step.get("type") == "Strip":
        return bool(step.get("content") == " " and step.get("start"))
    return step.get("type") == "Metaspace" and step.get("prepend_scheme", "always") != "never"


def _gpt2_table() -> dict[str, int]:
    """Return GPT-2's byte encoding: printable bytes are Latin-1 characters, the others follow from U+0100 on."""
    printable = {*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = (byte for byte in range(256) if byte not in printable)
    return {chr(byte): byte for byte in printable} | {chr(256 + n): byte for n, byte in enumerate(hidden)}


_GPT2_BYTES = _gpt2_table()


def _gpt2_bytes(piece: str) -> bytes:
    try:
        return bytes(_GPT2_BYTES[character] for character in piece)
    except KeyError:  # not byte-encoded, so it is plain text
        return piece.encode()


def _sentencepiece_bytes(piece: str) -> bytes:
    if match := _BYTE_PIECE.fullmatch(piece):
        return bytes([int(match[1], 16)])
    return piece.replace("\N{LOWER ONE EIGHTH BLOCK}", " ").encode()

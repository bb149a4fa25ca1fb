"""BERT's WordPiece tokenizer, which most small embedding models use and onnxruntime-genai does not support.

It follows Devlin et al. 2018 and the `BertNormalizer`, `BertPreTokenizer` and `WordPiece` of Hugging Face's tokenizers,
and the tests compare it with that library. The library itself is not a dependency because it requires a client of a
model hub and a dozen further packages.
"""

import unicodedata
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from cupola.errors import InvalidParameterError, ModelFormatError, RequestError
from cupola.provider import ChatPrompt, TextStream, Tokenizer
from cupola_providers.runtime.config import DOWNLOAD_AGAIN

_ASCII_PUNCTUATION = frozenset("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")
_IDEOGRAPHS = (
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B920, 0x2CEAF),
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
)
_DROPPED = {"Cc", "Cf", "Co"}  # as in the reference: unassigned code points are kept
_NO_SPACES = "\x1c\x1d\x1e\x1f"  # whitespace for `str.split`, but not in Unicode
_MOST_REMEMBERED = 20_000  # cached characters; a client can send all of Unicode


class BertNormalizer(Struct, frozen=True, tag_field="type"):
    """The normalization of a text. Accents are stripped if `strip_accents` is true, or None and `lowercase` is true."""

    clean_text: bool = True
    handle_chinese_chars: bool = True
    strip_accents: bool | None = None
    lowercase: bool = True


class BertPreTokenizer(Struct, frozen=True, tag_field="type"):
    """Splits at whitespace and around every punctuation character."""


class WordPiece(Struct, frozen=True, tag_field="type"):
    """The vocabulary. Entries that continue a word start with the prefix."""

    vocab: dict[str, int]
    unk_token: str = "[UNK]"  # noqa: S105 - not a secret
    continuing_subword_prefix: str = "##"
    max_input_chars_per_word: int = 100


class _TemplatePiece(Struct, frozen=True):
    special: dict[str, Any] | None = msgspec.field(name="SpecialToken", default=None)


class TemplateProcessing(Struct, frozen=True, tag_field="type"):
    """The special tokens around a text, as a template."""

    single: list[_TemplatePiece]

    def around(self) -> tuple[list[str], list[str]]:
        """Return the names of the special tokens before and after a text."""
        names = [piece.special["id"] if piece.special else None for piece in self.single]
        middle = names.index(None)
        return [name for name in names[:middle] if name], [name for name in names[middle:] if name]


class BertProcessing(Struct, frozen=True, tag_field="type"):
    """The special tokens around a text in the older format: name and id."""

    cls: tuple[str, int]
    sep: tuple[str, int]

    def around(self) -> tuple[list[str], list[str]]:
        """Return the names of the special tokens before and after a text."""
        return [self.cls[0]], [self.sep[0]]


class _AddedToken(Struct, frozen=True):
    id: int
    content: str
    special: bool = False


class _TokenizerFile(Struct, frozen=True):
    """A tokenizer.json with WordPiece. Decoding any other kind fails."""

    model: WordPiece
    normalizer: BertNormalizer
    pre_tokenizer: BertPreTokenizer
    post_processor: TemplateProcessing | BertProcessing
    added_tokens: list[_AddedToken] = []


class WordPieceTokenizer(Tokenizer):
    """The tokenizer of an embedding model. Special tokens surround a text; its own characters never become one.

    Args:
        folder: The model's folder, with its tokenizer.json.

    Raises:
        ModelFormatError: The file is missing, damaged, or of another kind.
    """

    def __init__(self, folder: Path) -> None:
        file = _read(folder / "tokenizer.json")
        self._model = file.model
        self._pieces = {token: piece for piece, token in file.model.vocab.items()}
        self._pieces |= {token.id: token.content for token in file.added_tokens}
        self._specials = {token.id for token in file.added_tokens if token.special}
        ids = {piece: token for token, piece in self._pieces.items()}
        try:
            self._unknown = ids[file.model.unk_token]
            self._before, self._after = ([ids[name] for name in names] for names in file.post_processor.around())
        except (KeyError, ValueError) as error:
            detail = f"a special token is missing ({error}). {DOWNLOAD_AGAIN}"
            raise ModelFormatError(path=str(folder / "tokenizer.json"), detail=detail) from error
        self._characters = _Characters(file.normalizer)
        self._longest = max(map(len, file.model.vocab))

    @property
    def vocab_size(self) -> int:
        """The largest token id plus one."""
        return max(self._pieces) + 1

    def render(self, prompt: ChatPrompt) -> list[int]:  # noqa: ARG002 - required by the contract
        """Reject a chat: these models have no chat template.

        Raises:
            RequestError: Always.
        """
        raise RequestError(detail="This model makes embeddings and has no chat template. Send a plain text.")

    def encode(self, text: str) -> list[int]:
        """Tokenize a text, and add the model's special tokens around it."""
        words = text.translate(self._characters).split()
        return [*self._before, *(token for word in words for token in self._word(word)), *self._after]

    def token_bytes(self, token: int) -> bytes:
        """Return the text of a token, after a space if it starts a word. Case and spacing of the input are lost.

        Raises:
            InvalidParameterError: The token is not in the vocabulary.
        """
        piece = self._pieces.get(token)
        if piece is None:
            raise InvalidParameterError(param="tokens", detail=f"There is no token {token} in this model's vocabulary.")
        prefix = self._model.continuing_subword_prefix
        if token in self._specials:
            return piece.encode()
        return (piece.removeprefix(prefix) if piece.startswith(prefix) else f" {piece}").encode()

    def stream(self, *, special: bool = False) -> TextStream:
        """Create a decoder of tokens."""
        return _PieceStream(self, hidden=frozenset() if special else frozenset(self._specials))

    def _word(self, word: str) -> list[int]:
        """Split a word greedily into the longest entries; a word that cannot be split is the unknown token."""
        if len(word) > self._model.max_input_chars_per_word:
            return [self._unknown]
        vocab, tokens, start, prefix = self._model.vocab, [], 0, ""
        while start < len(word):
            end = min(len(word), start + self._longest)
            while end > start and prefix + word[start:end] not in vocab:
                end -= 1
            if end == start:
                return [self._unknown]
            tokens.append(vocab[prefix + word[start:end]])
            start, prefix = end, self._model.continuing_subword_prefix
        return tokens


class _PieceStream:
    """A `TextStream` over vocabulary entries."""

    def __init__(self, tokenizer: WordPieceTokenizer, hidden: frozenset[int]) -> None:
        self._tokenizer, self._hidden = tokenizer, hidden

    def push(self, token: int) -> str:
        return "" if token in self._hidden else self._tokenizer.token_bytes(token).decode()

    def flush(self) -> str:
        return ""


class _Characters(dict[int, str]):
    """A table for `str.translate`, filled on demand: the normalized text of a character, with spaces around words."""

    def __init__(self, normalizer: BertNormalizer) -> None:
        super().__init__()
        self._normalizer = normalizer

    def __missing__(self, code: int) -> str:
        if len(self) >= _MOST_REMEMBERED:
            self.clear()
        self[code] = text = self._normalize(chr(code))
        return text

    def _normalize(self, character: str) -> str:
        rules = self._normalizer
        if rules.clean_text and _is_dropped(character):
            return ""
        if character in _NO_SPACES:
            return "\N{REPLACEMENT CHARACTER}"
        ideograph = rules.handle_chinese_chars and any(a <= ord(character) <= b for a, b in _IDEOGRAPHS)
        strip = rules.lowercase if rules.strip_accents is None else rules.strip_accents
        if strip:
            decomposed = unicodedata.normalize("NFD", character)
            character = "".join(c for c in decomposed if unicodedata.category(c) != "Mn")
        if rules.lowercase:
            character = character.lower()
        text = "".join(f" {c} " if _is_punctuation(c) else c for c in character)
        return f" {text} " if ideograph else text


def _is_dropped(character: str) -> bool:
    if character in "\t\n\r":
        return False
    return character in "\0\N{REPLACEMENT CHARACTER}" or unicodedata.category(character) in _DROPPED


def _is_punctuation(character: str) -> bool:
    return character in _ASCII_PUNCTUATION or unicodedata.category(character)[0] == "P"


def _read(path: Path) -> _TokenizerFile:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_TokenizerFile)
    except OSError as error:
        problem = f"the file cannot be read ({error.strerror}). {DOWNLOAD_AGAIN}"
    except msgspec.ValidationError as error:
        problem = f"embedding models need BERT's WordPiece tokenizer, which this is not ({error})."
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        problem = f"the file is damaged ({error}). {DOWNLOAD_AGAIN}"
    raise ModelFormatError(path=str(path), detail=problem)

"""The tokenizer of onnxruntime-genai, made safe for text that strangers wrote.

What 0.18.0 does by itself, and what is done about it here:

* `encode` takes `<|im_end|>` inside a message for the control token. Such text is cut in the middle before it is
  encoded, piece by piece, so that no piece holds a special token.
* Text ends at a NUL, a template's whole output included. NUL becomes U+FFFD, as in HTML and CommonMark.
* What a vocabulary without byte fallback cannot spell comes out as token -1. It becomes U+FFFD too, or nothing.
* It prefers the template of tokenizer_config.json to chat_template.jinja; the other way round is what publishers mean.
* Streams lose text after invalid UTF-8: see `vocabulary`.
"""

import re
import secrets
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import onnxruntime_genai as og
from msgspec import Struct

from cupola import ChatPrompt, Message, ModelFormatError, RequestError, TextStream, Tokenizer
from cupola_providers.runtime.config import GenaiConfig
from cupola_providers.runtime.vocabulary import ByteStream, Vocabulary, read_tokenizer_file

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_UNUSABLE = re.compile("[\0\ud800-\udfff]")
_TEMPLATE_POSITION = re.compile(r" at row \d+, column \d+:.*", re.DOTALL)


class GenaiTokenizer(Tokenizer):
    """Tokenizes for one model.

    Args:
        folder: The model's folder.
        config: Its genai_config.json.

    Raises:
        ModelFormatError: The tokenizer's files are missing or damaged.
    """

    def __init__(self, folder: Path, config: GenaiConfig) -> None:
        self.vocabulary = Vocabulary(read_tokenizer_file(folder), control_ids=config.control_token_ids)
        self._guard = SpecialTokenGuard(self.vocabulary.specials.values())
        self._template = read_chat_template(folder)
        self._spellable: dict[str, bool] = {}
        try:
            self._library = og.Tokenizer(str(folder))
        except RuntimeError as error:
            detail = f"the tokenizer cannot be read ({error}). Delete the model's folder and download it again."
            raise ModelFormatError(path=str(folder / "tokenizer.json"), detail=detail) from error
        self._bos = self._leading_tokens()

    def render(self, prompt: ChatPrompt) -> list[int]:
        """Render a chat with the model's template and tokenize it; special tokens count only where it wrote them.

        Raises:
            RequestError: There is no template, or it refuses these messages.
        """
        if not self._template:
            raise RequestError(detail="This model has no chat template. Use completions, with a plain text prompt.")
        cut = self._unseen_mark(prompt.messages)
        messages = msgspec.json.encode([self._fields(message, cut) for message in prompt.messages]).decode()
        try:
            text = self._library.apply_chat_template(messages, template_str=self._template, add_generation_prompt=True)
        except RuntimeError as error:
            reason = _TEMPLATE_POSITION.sub("", str(error))
            raise RequestError(detail=f"The model's chat template refuses these messages: {reason}") from error
        return [token for piece in text.split(cut) for token in self._encode(piece)]

    def encode(self, text: str) -> list[int]:
        """Tokenize raw text. Nothing in it becomes special; BOS comes first where the model's tokenizer wants one."""
        return [*self._bos, *(token for piece in self._guard.pieces(_usable(text)) for token in self._plain(piece))]

    def token_bytes(self, token: int) -> bytes:
        """Return what one token stands for, as UTF-8 bytes; not always whole characters. Special ones as written."""
        special = self.vocabulary.specials.get(token)
        if special is not None:
            return special.encode()
        if self.vocabulary.is_known:
            return self.vocabulary.token_bytes(token)
        return str(self._library.decode([token])).encode()

    def stream(self, *, special: bool = False) -> TextStream:  # noqa: ARG002 - until the next change
        """Open a decoder for one answer. Special tokens come out as nothing."""
        if self.vocabulary.is_known:
            return ByteStream(self.vocabulary)
        return LibraryStream(self._library)

    def _fields(self, message: Message, cut: str) -> dict[str, str]:
        fields = {"role": message.role, "content": message.content}
        if message.name is not None:
            fields["name"] = message.name
        return {key: cut.join(self._guard.pieces(_usable(value))) for key, value in fields.items()}

    def _unseen_mark(self, messages: Sequence[Message]) -> str:
        """Draw a mark that is nowhere in the messages. Of digits, as they survive every filter a template may use."""
        texts = [text for message in messages for text in (message.role, message.content, message.name or "")]
        while True:
            mark = str(10**23 + secrets.randbelow(10**24))
            if not any(mark in text for text in texts):
                return mark

    def _leading_tokens(self) -> list[int]:
        """Return what the tokenizer puts before a text when asked to; templates write theirs themselves."""
        self._library.update_options(add_special_tokens="true")
        whole: list[int] = self._library.encode("a").tolist()
        self._library.update_options(add_special_tokens="false")
        plain = self._library.encode("a").tolist()
        starts = (n for n in range(len(whole)) if whole[n : n + len(plain)] == plain)
        return whole[: next(starts, 0)]

    def _plain(self, piece: str) -> list[int]:
        """Encode a piece that must hold no special token, whatever the tokenizer's normalizer makes of it."""
        tokens = self._encode(piece)
        if self.vocabulary.specials.keys().isdisjoint(tokens):
            return tokens
        if len(piece) == 1:
            return [token for token in self._encode(_REPLACEMENT) if token not in self.vocabulary.specials]
        middle = len(piece) // 2
        return self._plain(piece[:middle]) + self._plain(piece[middle:])

    def _encode(self, piece: str) -> list[int]:
        tokens = self._library.encode(piece)
        if tokens.size and tokens.min() < 0:
            spelt = "".join(c if self._is_spellable(c) else _REPLACEMENT for c in piece)
            tokens = self._library.encode(spelt)
            tokens = tokens[tokens >= 0]
        ids: list[int] = tokens.tolist()
        return ids

    def _is_spellable(self, character: str) -> bool:
        if character not in self._spellable:
            self._spellable[character] = bool((self._library.encode(character) >= 0).all())
        return self._spellable[character]


class SpecialTokenGuard:
    """Cuts text so that no piece holds a special token.

    Args:
        specials: The special tokens' texts.
    """

    def __init__(self, specials: Iterable[str]) -> None:
        texts = {text for text in specials if text}
        self._single = {text for text in texts if len(text) == 1}
        self._texts = texts - self._single
        # Shortest first: a cut inside the shortest one that starts somewhere is inside the longer ones as well.
        self._lengths = sorted({len(text) for text in self._texts})
        firsts = "".join(sorted({re.escape(text[0]) for text in self._texts}))
        self._firsts = re.compile(f"[{firsts}]") if firsts else None

    def pieces(self, text: str) -> list[str]:
        """Cut a text; the pieces joined are the text again, but for special tokens of one character (U+FFFD)."""
        if self._single:
            text = "".join(_REPLACEMENT if character in self._single else character for character in text)
        cuts = [0]
        for start, end in sorted(self._spans(text), key=lambda span: span[1]):
            if cuts[-1] <= start:
                cuts.append(end - 1)
        return [text[a:b] for a, b in zip(cuts, [*cuts[1:], len(text)], strict=True)]

    def _spans(self, text: str) -> Iterator[tuple[int, int]]:
        for match in self._firsts.finditer(text) if self._firsts else ():
            start = match.start()
            for length in self._lengths:
                if text[start : start + length] in self._texts:
                    yield start, start + length
                    break


class LibraryStream:
    """The library's own stream, for vocabularies whose spelling is not known here."""

    def __init__(self, tokenizer: Any) -> None:
        self._stream = tokenizer.create_stream()

    def push(self, token: int) -> str:
        """Add a token; returns the text that is now certain."""
        return str(self._stream.decode(token))

    def flush(self) -> str:
        """Return nothing: the library keeps its rest to itself."""
        return ""


class _TokenizerConfig(Struct, frozen=True):
    chat_template: str | None = None


def read_chat_template(folder: Path) -> str | None:
    """Find the model's chat template: chat_template.jinja, or the one in tokenizer_config.json.

    Raises:
        ModelFormatError: A file is there but cannot be read.
    """
    path = folder / "chat_template.jinja"
    try:
        if path.exists():
            return path.read_text("utf-8")
        path = folder / "tokenizer_config.json"
        if not path.exists():
            return None
        return msgspec.json.decode(path.read_bytes(), type=_TokenizerConfig).chat_template
    except (OSError, UnicodeDecodeError, msgspec.DecodeError) as error:
        detail = f"the chat template cannot be read ({error}). Delete the model's folder and download it again."
        raise ModelFormatError(path=str(path), detail=detail) from error


def _usable(text: str) -> str:
    return _UNUSABLE.sub(_REPLACEMENT, text)

"""The tokenizer of onnxruntime-genai, made safe for untrusted text.

Problems of release 0.18.0, observed by the tests, and their solutions:

* `encode` converts `<|im_end|>` in a message to the control token. Such text is split inside the special token and
  encoded in pieces.
* Text ends at the first NUL, including the output of templates. NUL is replaced by U+FFFD, as in HTML and CommonMark.
* Characters that a vocabulary without byte fallback lacks become token -1. They are replaced by U+FFFD, or removed.
* Its engine for chat templates is too limited: see `chat_template`.
* Streams lose text after invalid UTF-8: see `vocabulary`.
"""

import contextlib
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from cupola.errors import InvalidParameterError, ModelFormatError, RequestError
from cupola.provider import ChatPrompt, Message, TextStream, Tokenizer, Tool, ToolCall
from cupola_providers.runtime.chat_template import ChatTemplate
from cupola_providers.runtime.config import DOWNLOAD_AGAIN, GenaiConfig
from cupola_providers.runtime.vocabulary import ByteStream, Vocabulary, read_tokenizer_file

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_UNUSABLE = re.compile("[\0\ud800-\udfff]")


class GenaiTokenizer(Tokenizer):
    """The tokenizer of one model.

    Args:
        folder: The model's folder.
        config: Its genai_config.json.
        library: Encoder to use instead of onnxruntime-genai's tokenizer, which is then not required.

    Raises:
        ModelFormatError: The tokenizer's files are missing or damaged.
    """

    def __init__(self, folder: Path, config: GenaiConfig, library: Any = None) -> None:
        self.vocabulary = Vocabulary(read_tokenizer_file(folder), control_ids=config.control_token_ids)
        self._guard = SpecialTokenGuard(self.vocabulary.specials.values())
        self._template = ChatTemplate(folder)
        self._vocab_size = config.model.vocab_size
        self._spellable: dict[str, bool] = {}
        self._library = library or _library_of(folder)
        self._bos = self._leading_tokens()

    @property
    def template(self) -> str:
        """The source of the chat template; empty if there is none."""
        return self._template.source

    def render(self, prompt: ChatPrompt) -> list[int]:
        """Render a chat with the model's template and tokenize it. Only the template can write special tokens.

        Arguments of tool calls are passed as parsed JSON, or as text to templates that fail on that.

        Raises:
            RequestError: There is no template, or it rejects these messages.
        """
        try:
            return self._rendered(prompt, parse_arguments=True)
        except RequestError:
            if any(message.tool_calls for message in prompt.messages):
                with contextlib.suppress(RequestError):
                    return self._rendered(prompt, parse_arguments=False)
            raise
        except RecursionError as error:
            raise RequestError(detail="Messages or tools are nested too deeply.") from error

    def _rendered(self, prompt: ChatPrompt, *, parse_arguments: bool) -> list[int]:
        messages = [message_fields(message, parse_arguments=parse_arguments) for message in prompt.messages]
        variables = (messages, [tool_fields(tool) for tool in prompt.tools], prompt.template_options)
        cut = _unseen_mark(variables)
        messages, tools, options = self._guarded(variables, cut)
        try:
            text = self._template.render(messages, tools, options)
        except RequestError as error:
            error.detail = error.detail.replace(cut, "")
            raise
        return [token for piece in text.split(cut) for token in self._encode(piece)]

    def _guarded(self, value: Any, cut: str) -> Any:
        """Split the special tokens in all strings of a value with `cut`."""
        if isinstance(value, str):
            return cut.join(self._guard.pieces(_usable(value)))
        if isinstance(value, dict):
            return {self._guarded(key, cut): self._guarded(one, cut) for key, one in value.items()}
        if isinstance(value, list | tuple):
            return [self._guarded(one, cut) for one in value]
        return value

    def encode(self, text: str) -> list[int]:
        """Tokenize raw text without special tokens. BOS is added if the model's tokenizer adds one."""
        return [*self._bos, *(token for piece in self._guard.pieces(_usable(text)) for token in self._plain(piece))]

    def token_bytes(self, token: int) -> bytes:
        """Return the UTF-8 bytes of a token, which may be part of a character; the text of a special token.

        Raises:
            InvalidParameterError: The token is not in the vocabulary.
        """
        if not 0 <= token < self._vocab_size:
            detail = f"Token {token} is not in this model's vocabulary: ids go from 0 to {self._vocab_size - 1}."
            raise InvalidParameterError(param="tokens", detail=detail)
        special = self.vocabulary.specials.get(token)
        if special is not None:
            return special.encode()
        if self.vocabulary.is_known:
            return self.vocabulary.token_bytes(token)
        return str(self._library.decode([token])).encode()

    def stream(self, *, special: bool = False) -> TextStream:
        """Create a decoder for one answer. Special tokens are omitted unless `special` is set."""
        if self.vocabulary.is_known:
            return ByteStream(self.vocabulary, special=special)
        return LibraryStream(self._library, self.vocabulary.specials if special else {})

    def _leading_tokens(self) -> list[int]:
        """Return the tokens that the tokenizer adds before raw text. Templates write their own."""
        self._library.update_options(add_special_tokens="true")
        whole: list[int] = self._library.encode("a").tolist()
        self._library.update_options(add_special_tokens="false")
        plain = self._library.encode("a").tolist()
        starts = (n for n in range(len(whole)) if whole[n : n + len(plain)] == plain)
        return whole[: next(starts, 0)]

    def _plain(self, piece: str) -> list[int]:
        """Encode a piece without special tokens, also if the tokenizer's normalizer would create one."""
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


def _library_of(folder: Path) -> Any:
    import onnxruntime_genai as og  # noqa: PLC0415 - providers with their own encoder do not need it

    try:
        return og.Tokenizer(str(folder))
    except RuntimeError as error:
        detail = f"the tokenizer cannot be read ({error}). {DOWNLOAD_AGAIN}"
        raise ModelFormatError(path=str(folder / "tokenizer.json"), detail=detail) from error


class SpecialTokenGuard:
    """Splits text so that no piece contains a special token.

    Args:
        specials: The special tokens' texts.
    """

    def __init__(self, specials: Iterable[str]) -> None:
        texts = {text for text in specials if text}
        self._single = {text for text in texts if len(text) == 1}
        self._texts = texts - self._single
        # Shortest first: a split inside the shortest token at a position is also inside all longer ones.
        self._lengths = sorted({len(text) for text in self._texts})
        firsts = "".join(sorted({re.escape(text[0]) for text in self._texts}))
        self._firsts = re.compile(f"[{firsts}]") if firsts else None

    def pieces(self, text: str) -> list[str]:
        """Split a text. The joined pieces equal the text, except that special single characters become U+FFFD."""
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
    """The library's stream, for vocabularies with an unknown byte encoding.

    Args:
        tokenizer: The library's tokenizer.
        specials: Texts of special tokens to emit, by id; the library omits them.
    """

    def __init__(self, tokenizer: Any, specials: Mapping[int, str]) -> None:
        self._stream = tokenizer.create_stream()
        self._specials = specials

    def push(self, token: int) -> str:
        """Add a token; returns the completed text."""
        return self._specials.get(token) or str(self._stream.decode(token))

    def flush(self) -> str:
        """Return "": the library does not expose incomplete text."""
        return ""


def message_fields(message: Message, *, parse_arguments: bool = True) -> dict[str, Any]:
    """Return a message as chat templates expect it."""
    fields: dict[str, Any] = {"role": message.role, "content": message.content}
    optional = {name: getattr(message, name) for name in ("name", "tool_call_id", "reasoning_content")}
    fields |= {name: value for name, value in optional.items() if value is not None}
    if message.tool_calls:
        fields["tool_calls"] = [_call_fields(call, parse_arguments=parse_arguments) for call in message.tool_calls]
    return fields


def tool_fields(tool: Tool) -> dict[str, Any]:
    """Return a tool in OpenAI's format, which chat templates expect."""
    function = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    return {"type": "function", "function": function}


def _call_fields(call: ToolCall, *, parse_arguments: bool) -> dict[str, Any]:
    arguments: Any = call.arguments
    if parse_arguments:
        with contextlib.suppress(msgspec.DecodeError, RecursionError):
            parsed = msgspec.json.decode(call.arguments)
            arguments = parsed if isinstance(parsed, dict) else call.arguments
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}}


def _unseen_mark(variables: object) -> str:
    """Draw a random marker that does not occur in `variables`. Digits survive every filter of a template."""
    seen = repr(variables)
    while True:
        mark = str(10**23 + secrets.randbelow(10**24))
        if mark not in seen:
            return mark


def _usable(text: str) -> str:
    return _UNUSABLE.sub(_REPLACEMENT, text)

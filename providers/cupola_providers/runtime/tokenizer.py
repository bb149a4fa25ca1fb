"""The tokenizer of onnxruntime-genai, made safe for text that strangers wrote.

What 0.18.0 does by itself, and what is done about it here:

* `encode` takes `<|im_end|>` inside a message for the control token. Such text is cut in the middle before it is
  encoded, piece by piece, so that no piece holds a special token.
* Text ends at a NUL, a template's whole output included. NUL becomes U+FFFD, as in HTML and CommonMark.
* What a vocabulary without byte fallback cannot spell comes out as token -1. It becomes U+FFFD too, or nothing.
* Its engine for chat templates knows too little: see `chat_template`.
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
from cupola_providers.runtime.config import GenaiConfig
from cupola_providers.runtime.vocabulary import ByteStream, Vocabulary, read_tokenizer_file

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_UNUSABLE = re.compile("[\0\ud800-\udfff]")


class GenaiTokenizer(Tokenizer):
    """Tokenizes for one model.

    Args:
        folder: The model's folder.
        config: Its genai_config.json.
        library: What encodes, in place of onnxruntime-genai's tokenizer, where that is not installed.

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
        """The chat template's source; empty where there is none."""
        return self._template.source

    def render(self, prompt: ChatPrompt) -> list[int]:
        """Render a chat with the model's template and tokenize it; special tokens count only where it wrote them.

        Arguments of tool calls are given as what their JSON means. Where a template wants text, it gets that.

        Raises:
            RequestError: There is no template, or it refuses these messages.
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
        """Cut the special tokens in all strings of a value."""
        if isinstance(value, str):
            return cut.join(self._guard.pieces(_usable(value)))
        if isinstance(value, dict):
            return {self._guarded(key, cut): self._guarded(one, cut) for key, one in value.items()}
        if isinstance(value, list | tuple):
            return [self._guarded(one, cut) for one in value]
        return value

    def encode(self, text: str) -> list[int]:
        """Tokenize raw text. Nothing in it becomes special; BOS comes first where the model's tokenizer wants one."""
        return [*self._bos, *(token for piece in self._guard.pieces(_usable(text)) for token in self._plain(piece))]

    def token_bytes(self, token: int) -> bytes:
        """Return what one token stands for, as UTF-8 bytes; not always whole characters. Special ones as written.

        Raises:
            InvalidParameterError: There is no such token.
        """
        if not 0 <= token < self._vocab_size:
            detail = f"{token} is no token of this model: ids go from 0 to {self._vocab_size - 1}."
            raise InvalidParameterError(param="tokens", detail=detail)
        special = self.vocabulary.specials.get(token)
        if special is not None:
            return special.encode()
        if self.vocabulary.is_known:
            return self.vocabulary.token_bytes(token)
        return str(self._library.decode([token])).encode()

    def stream(self, *, special: bool = False) -> TextStream:
        """Open a decoder for one answer. Special tokens come out as nothing, or as they are written if `special`."""
        if self.vocabulary.is_known:
            return ByteStream(self.vocabulary, special=special)
        return LibraryStream(self._library, self.vocabulary.specials if special else {})

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


def _library_of(folder: Path) -> Any:
    import onnxruntime_genai as og  # noqa: PLC0415 - a provider that brings an encoder of its own goes without it

    try:
        return og.Tokenizer(str(folder))
    except RuntimeError as error:
        detail = f"the tokenizer cannot be read ({error}). Delete the model's folder and download it again."
        raise ModelFormatError(path=str(folder / "tokenizer.json"), detail=detail) from error


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
        self._length_nodes = sorted({len(text) for text in self._texts})
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
            for length in self._length_nodes:
                if text[start : start + length] in self._texts:
                    yield start, start + length
                    break


class LibraryStream:
    """The library's own stream, for vocabularies whose spelling is not known here.

    Args:
        tokenizer: The library's tokenizer.
        specials: Special tokens to write out, id to text; it swallows them.
    """

    def __init__(self, tokenizer: Any, specials: Mapping[int, str]) -> None:
        self._stream = tokenizer.create_stream()
        self._specials = specials

    def push(self, token: int) -> str:
        """Add a token; returns the text that is now certain."""
        return self._specials.get(token) or str(self._stream.decode(token))

    def flush(self) -> str:
        """Return nothing: the library keeps its rest to itself."""
        return ""


def message_fields(message: Message, *, parse_arguments: bool = True) -> dict[str, Any]:
    """Return a message as templates expect it."""
    fields: dict[str, Any] = {"role": message.role, "content": message.content}
    optional = {name: getattr(message, name) for name in ("name", "tool_call_id", "reasoning_content")}
    fields |= {name: value for name, value in optional.items() if value is not None}
    if message.tool_calls:
        fields["tool_calls"] = [_call_fields(call, parse_arguments=parse_arguments) for call in message.tool_calls]
    return fields


def tool_fields(tool: Tool) -> dict[str, Any]:
    """Return a tool in OpenAI's format, which is what templates expect."""
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
    """Draw a mark that is nowhere in these. Of digits, as they survive every filter a template may use."""
    seen = repr(variables)
    while True:
        mark = str(10**23 + secrets.randbelow(10**24))
        if mark not in seen:
            return mark


def _usable(text: str) -> str:
    return _UNUSABLE.sub(_REPLACEMENT, text)

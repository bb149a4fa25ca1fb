"""Chat templates, rendered by Jinja with the same environment as in Hugging Face transformers.

The engine of onnxruntime-genai supports no variables except messages and tools, and a template with infinite recursion
crashes its process. Here it raises an error, and the sandbox limits a template to its arguments.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import jinja2
import jinja2.ext
import msgspec
from jinja2.sandbox import ImmutableSandboxedEnvironment
from msgspec import Struct

from cupola.errors import InvalidParameterError, ModelFormatError, RequestError
from cupola_providers.runtime.config import DOWNLOAD_AGAIN

T = TypeVar("T")

CONFIG_FILE = "tokenizer_config.json"
TEMPLATE_FILE = "chat_template.jinja"
_RESERVED = ("messages", "tools")
_FAULTS = (
    jinja2.TemplateError,
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)  # what an expression in a template can raise


class _SpecialToken(Struct, frozen=True):
    content: str


class _TokenizerConfig(Struct, frozen=True):
    chat_template: str | None = None
    bos_token: str | _SpecialToken | None = None
    eos_token: str | _SpecialToken | None = None
    unk_token: str | _SpecialToken | None = None
    pad_token: str | _SpecialToken | None = None
    sep_token: str | _SpecialToken | None = None
    cls_token: str | _SpecialToken | None = None
    mask_token: str | _SpecialToken | None = None

    def special_tokens(self) -> dict[str, str]:
        """Return the special tokens by variable name."""
        named = {name: getattr(self, name) for name in self.__struct_fields__ if name.endswith("_token")}
        return {name: getattr(token, "content", token) for name, token in named.items() if token is not None}


class ChatTemplate:
    """The chat template of a model, from chat_template.jinja or tokenizer_config.json.

    Args:
        folder: The model's folder.

    Attributes:
        source: The Jinja source; empty if there is none.

    Raises:
        ModelFormatError: A file exists but cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        config = _read(folder / CONFIG_FILE, _tokenizer_config) or _TokenizerConfig()
        self.source = _read(folder / TEMPLATE_FILE, bytes.decode) or config.chat_template or ""
        self._special_tokens = config.special_tokens()
        self._compiled: jinja2.Template | None = None

    def render(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]], options: Mapping[str, Any]
    ) -> str:
        """Render a chat, followed by the start of the assistant's answer.

        Args:
            messages: Messages with role, content and so on, as templates expect them.
            tools: Functions in OpenAI's format.
            options: Further variables.

        Raises:
            InvalidParameterError: An option has a reserved name.
            RequestError: There is no template, or it rejects the messages or fails.
        """
        if not self.source:
            raise RequestError(detail="This model has no chat template. Use completions, with a plain text prompt.")
        if taken := [name for name in _RESERVED if name in options]:
            detail = (
                f"{taken[0]} is reserved and cannot be a variable of the chat template. Use the field of that name."
            )
            raise InvalidParameterError(param="chat_template_kwargs", detail=detail)
        variables = {"add_generation_prompt": True, **self._special_tokens, **options}
        try:
            self._compiled = self._compiled or _environment().from_string(self.source)
            return self._compiled.render(variables, messages=messages, tools=tools or None)
        except _FAULTS as error:
            reason = "it recurses infinitely" if isinstance(error, RecursionError) else str(error)
            raise RequestError(detail=f"The model's chat template rejected these messages: {reason}") from error


class _Generation(jinja2.ext.Extension):
    """The tag `{% generation %}`, which marks the assistant's text for training and has no effect here."""

    tags = {"generation"}  # noqa: RUF012 - as declared by Jinja

    def parse(self, parser: Any) -> Any:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise
    environment.globals["strftime_now"] = _now
    return environment


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Encode JSON. Jinja's own filter is made for HTML and would escape `<`, `>` and `&`."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _now(pattern: str) -> str:
    return datetime.now().strftime(pattern)


def _tokenizer_config(content: bytes) -> _TokenizerConfig:
    return msgspec.json.decode(content, type=_TokenizerConfig)


def _read(path: Path, decode: Callable[[bytes], T]) -> T | None:
    try:
        return decode(path.read_bytes()) if path.exists() else None
    except (OSError, UnicodeDecodeError, msgspec.DecodeError) as error:
        detail = f"the chat template cannot be read ({error}). {DOWNLOAD_AGAIN}"
        raise ModelFormatError(path=str(path), detail=detail) from error

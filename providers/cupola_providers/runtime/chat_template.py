"""Chat templates, rendered as the publishers of models test them: with Jinja, set up as in Hugging Face transformers.

onnxruntime-genai has an engine of its own, but that takes no variables beside messages and tools, and a template that
calls itself without end crashes the process. Here it is an error, and a template can touch nothing but its arguments.
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

T = TypeVar("T")

CONFIG_FILE = "tokenizer_config.json"
TEMPLATE_FILE = "chat_template.jinja"
_OURS = ("messages", "tools")
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
        """Return the special tokens that have a name."""
        named = {name: getattr(self, name) for name in self.__struct_fields__ if name.endswith("_token")}
        return {name: getattr(token, "content", token) for name, token in named.items() if token is not None}


class ChatTemplate:
    """The chat template of a model: chat_template.jinja, or what tokenizer_config.json has.

    Args:
        folder: The model's folder.

    Attributes:
        source: What it says; empty where there is none.

    Raises:
        ModelFormatError: A file is there but cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        config = _read(folder / CONFIG_FILE, _tokenizer_config) or _TokenizerConfig()
        self.source = _read(folder / TEMPLATE_FILE, bytes.decode) or config.chat_template or ""
        self._special_tokens = config.special_tokens()
        self._compiled: jinja2.Template | None = None

    def render(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]], options: Mapping[str, Any]
    ) -> str:
        """Render a chat, with the last turn left open for the assistant.

        Args:
            messages: As templates expect them: role, content, and so on.
            tools: Functions in OpenAI's format.
            options: Further variables.

        Raises:
            InvalidParameterError: An option has the name of a variable that is not for options.
            RequestError: There is no template, or it refuses or fails.
        """
        if not self.source:
            raise RequestError(detail="This model has no chat template. Use completions, with a plain text prompt.")
        if taken := [name for name in _OURS if name in options]:
            detail = f"{taken[0]} cannot be given as a variable of the chat template; it has its own field."
            raise InvalidParameterError(param="chat_template_kwargs", detail=detail)
        variables = {"add_generation_prompt": True, **self._special_tokens, **options}
        try:
            self._compiled = self._compiled or _environment().from_string(self.source)
            return self._compiled.render(variables, messages=messages, tools=tools or None)
        except _FAULTS as error:
            reason = "it calls itself without end" if isinstance(error, RecursionError) else str(error)
            raise RequestError(detail=f"The model's chat template refuses these messages: {reason}") from error


class _Generation(jinja2.ext.Extension):
    """`{% generation %}`, which marks the assistant's part for training and does nothing here."""

    tags = {"generation"}  # noqa: RUF012 - as Jinja declares it

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
    """Write JSON. The filter that Jinja brings is meant for HTML and would spell out `<`, `>` and `&`."""
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
        detail = f"the chat template cannot be read ({error}). Delete the model's folder and download it again."
        raise ModelFormatError(path=str(path), detail=detail) from error

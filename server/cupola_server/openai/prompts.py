"""Prompts without messages, in their four forms: a string, strings, a list of tokens, or several of those."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cupola_server.openai.errors import FieldError

PromptField = str | Sequence[str | int | Sequence[int]]


@dataclass(frozen=True, slots=True)
class Prompts:
    """The prompts or inputs of a request.

    Attributes:
        items: Strings or token ids, none of them empty.
        param: The field of the request.
        is_list: Whether the client sent a list, so that errors name an item by its index.
    """

    items: tuple[str | tuple[int, ...], ...]
    param: str
    is_list: bool

    def param_of(self, index: int) -> str:
        """Return the client's name of one item."""
        return f"{self.param}[{index}]" if self.is_list else self.param


def parse_prompts(value: PromptField, param: str, *, limit: int) -> Prompts:
    """Parse the prompts of a request.

    Args:
        value: The field's value.
        param: The field's name.
        limit: The maximum number of items.

    Raises:
        FieldError: There are no items or too many, one is empty, or strings and tokens are mixed.
    """
    kinds = [] if isinstance(value, str) else [type(item) for item in value]
    for index, kind in enumerate(kinds):
        if kind is not kinds[0]:
            raise _invalid(f"{param}[{index}]", "its type differs from that of the first item")
    prompts = _parse(value, param)
    if not 1 <= len(prompts.items) <= limit:
        raise _invalid(param, f"it has {len(prompts.items)} items, but 1 to {limit} are allowed")
    for index, item in enumerate(prompts.items):
        if not item:
            raise _invalid(prompts.param_of(index), "it is empty")
    return prompts


def _parse(value: Any, param: str) -> Prompts:
    if isinstance(value, str):
        return Prompts((value,), param, is_list=False)
    if value and isinstance(value[0], int):
        return Prompts((tuple(value),), param, is_list=False)
    return Prompts(tuple(item if isinstance(item, str) else tuple(item) for item in value), param, is_list=True)


def _invalid(param: str, problem: str) -> FieldError:
    return FieldError(param=param, code="invalid_value", detail=f"Invalid value for '{param}': {problem}.")

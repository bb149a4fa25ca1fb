"""The four forms of a prompt without messages: a text, several texts, the tokens of one, those of several."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cupola_server.openai.errors import FieldError

Given = str | Sequence[str | int | Sequence[int]]


@dataclass(frozen=True, slots=True)
class Prompts:
    """What was given, sorted out.

    Attributes:
        items: Texts, or lists of tokens; none is empty.
        param: The request's field.
        is_list: Whether the client sent a list of them, so that errors name one by its number.
    """

    items: tuple[str | tuple[int, ...], ...]
    param: str
    is_list: bool

    def where(self, number: int) -> str:
        """Return what the client calls one of them."""
        return f"{self.param}[{number}]" if self.is_list else self.param


def sorted_out(given: Given, param: str, *, most: int) -> Prompts:
    """Sort out what was given.

    Raises:
        FieldError: There is none, one is empty, there are more than `most`, or texts and tokens are mixed.
    """
    kinds = [] if isinstance(given, str) else [type(one) for one in given]
    for number, kind in enumerate(kinds):
        if kind is not kinds[0]:
            raise _wrong(f"{param}[{number}]", "it is of another kind than the item before it")
    prompts = _prompts(given, param)
    if not 1 <= len(prompts.items) <= most:
        raise _wrong(param, f"it has {len(prompts.items)} items, and 1 to {most} are possible")
    for number, one in enumerate(prompts.items):
        if not one:
            raise _wrong(prompts.where(number), "it is empty")
    return prompts


def _prompts(given: Any, param: str) -> Prompts:
    if isinstance(given, str):
        return Prompts((given,), param, is_list=False)
    if given and isinstance(given[0], int):
        return Prompts((tuple(given),), param, is_list=False)
    return Prompts(tuple(one if isinstance(one, str) else tuple(one) for one in given), param, is_list=True)


def _wrong(param: str, problem: str) -> FieldError:
    return FieldError(param=param, code="invalid_value", detail=f"Invalid value for '{param}': {problem}.")

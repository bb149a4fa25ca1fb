"""`--filter key=value`: which models of a listing are shown. The same for every listing, of `cupola` and `foundry`.

Filters compare without regard to case. `*` stands for any text, also none; `!` before the value turns a filter round.
Several filters must all admit a model: `--filter device=!GPU --filter alias=phi*`.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from cupola.contracts.models import ModelInfo

_VALUES: Mapping[str, Callable[["ModelInfo"], Iterable[str]]] = MappingProxyType(
    {
        "device": lambda info: (info.device,),
        "task": lambda info: (
            info.task,
            info.task.removesuffix("-completion"),
            *(("tools",) if info.supports_tool_calling else ()),
        ),
        "alias": lambda info: (info.alias,),
        "provider": lambda info: (info.provider, info.provider.removesuffix("ExecutionProvider")),
        "id": lambda info: (info.id, info.name),
        "license": lambda info: (info.license,),
        "publisher": lambda info: (info.publisher,),
        "source": lambda info: (info.source,),
    }
)

FILTER_KEYS = tuple(_VALUES)


@dataclass(frozen=True, slots=True)
class Filter:
    """One condition on a model.

    Attributes:
        key: One of `FILTER_KEYS`.
        pattern: What one of the model's texts under that key must be; `*` stands for any text.
        negated: None of them may be it.
    """

    key: str
    pattern: str
    negated: bool = False

    def admits(self, info: "ModelInfo") -> bool:
        """Tell whether a model fulfils the condition."""
        wanted = re.compile(".*".join(map(re.escape, self.pattern.split("*"))), re.IGNORECASE | re.DOTALL)
        return any(map(wanted.fullmatch, _VALUES[self.key](info))) is not self.negated


def parse_filter(text: str) -> Filter:
    """Read "key=value".

    Raises:
        ValueError: Says what is wrong with the text, in a sentence.
    """
    key, equals, value = text.partition("=")
    key, value = key.strip().lower(), value.strip()
    negated = value.startswith("!")
    pattern = value[1:].strip() if negated else value
    if not equals or not pattern:
        raise ValueError(f"{text!r} is no filter; write key=value, for example device=CPU, alias=phi* or task=!chat.")
    if key not in _VALUES:
        raise ValueError(f"One cannot filter by {key!r}, only by {', '.join(FILTER_KEYS)}.")
    return Filter(key, pattern, negated)


def admitted(info: "ModelInfo", filters: Iterable[Filter]) -> bool:
    """Tell whether all filters admit a model."""
    return all(each.admits(info) for each in filters)


def _read(_: click.Context, __: click.Parameter, texts: Sequence[str]) -> tuple[Filter, ...]:
    try:
        return tuple(map(parse_filter, texts))
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def _complete(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    """Offer the keys to a shell, and the devices after `device=`."""
    devices = ["device=CPU", "device=GPU", "device=NPU"]
    offers = devices if incomplete.startswith("device=") else [f"{key}=" for key in FILTER_KEYS]
    return [offer for offer in offers if offer.startswith(incomplete)]


filter_option = click.option(
    "--filter",
    "filters",
    callback=_read,
    shell_complete=_complete,
    metavar="KEY=VALUE",
    multiple=True,
    help="Show only models with that device, task, alias, provider, ...; VALUE may hold * and begin with !.",
)
"""Adds `--filter`, which may be repeated, as the argument `filters`: a tuple of `Filter`."""

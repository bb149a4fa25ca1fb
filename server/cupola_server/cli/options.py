"""Options and arguments that several commands share: MODEL with shell completion, placement, and `--filter`.

Filters compare case-insensitively. `*` matches any text, including none; `!` before the value negates the filter. A
model is listed if it matches all filters: `--filter device=!GPU --filter alias=phi*`.
"""

import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import click

from cupola_server.cli.invocation import Invocation, run

if TYPE_CHECKING:
    from cupola.contracts.models import ModelInfo

_FILTER_VALUES: Mapping[str, Callable[["ModelInfo"], Iterable[str]]] = MappingProxyType(
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

FILTER_KEYS = tuple(_FILTER_VALUES)


class ListingGroup(click.Group):
    """A group that accepts `ls` for its command `list`."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command; None if there is no such command."""
        return super().get_command(ctx, "list" if cmd_name == "ls" else cmd_name)


def complete_model_name(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    """Complete an alias, or an id once something was typed. Errors are ignored: a shell shows only names."""
    from cupola.errors import CupolaError  # noqa: PLC0415

    invocation, prefix = Invocation(), incomplete.lower()
    logging.disable()

    async def names() -> dict[str, None]:
        settings = invocation.settings("azure.timeout_s=1")  # the user is waiting; the stored listing will do
        async with invocation.engine(settings, invocation.plugins(settings)) as engine:
            infos = [status.info for status in await engine.models()]
        return dict.fromkeys([info.alias for info in infos] + [info.id for info in infos if prefix])

    try:
        return [name for name in run(names) if name.lower().startswith(prefix)]
    except CupolaError:
        return []


def placement_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--provider` and `--device`, which `placement_overrides` turns into settings."""
    device = click.option(
        "--device",
        type=click.Choice(["CPU", "GPU", "NPU"], case_sensitive=False),
        help="Run the model on this type of device.",
    )
    provider = click.option(
        "--provider", metavar="NAME", help="Run the model on this execution provider; see `cupola provider list`."
    )
    return provider(device(command))


def placement_overrides(provider: str | None, device: str | None) -> list[str]:
    """Return the placement options as "section.key=value" settings."""
    options = (("provider", provider), ("device", device and device.upper()))
    return [f"models.{key}={value}" for key, value in options if value]


@dataclass(frozen=True, slots=True)
class Filter:
    """A condition on a model.

    Attributes:
        key: One of `FILTER_KEYS`.
        pattern: The text that one of the model's values for the key must equal; `*` matches any text.
        negated: Whether none of the values may match.
    """

    key: str
    pattern: str
    negated: bool = False

    def matches(self, info: "ModelInfo") -> bool:
        """Return whether a model fulfils the condition."""
        regex = re.compile(".*".join(map(re.escape, self.pattern.split("*"))), re.IGNORECASE | re.DOTALL)
        return any(map(regex.fullmatch, _FILTER_VALUES[self.key](info))) is not self.negated


def parse_filter(text: str) -> Filter:
    """Parse "key=value".

    Raises:
        ValueError: The text is not a filter; the message says why.
    """
    key, equals, value = text.partition("=")
    key, value = key.strip().lower(), value.strip()
    negated = value.startswith("!")
    pattern = value[1:].strip() if negated else value
    if not equals or not pattern:
        raise ValueError(f"Invalid filter {text!r}. Use KEY=VALUE, such as device=CPU, alias=phi* or task=!chat.")
    if key not in _FILTER_VALUES:
        raise ValueError(f"Unknown filter {key!r}. Valid filters: {', '.join(FILTER_KEYS)}.")
    return Filter(key, pattern, negated)


def matches_all(info: "ModelInfo", filters: Iterable[Filter]) -> bool:
    """Return whether a model matches all filters."""
    return all(condition.matches(info) for condition in filters)


def _parse_filters(_: click.Context, __: click.Parameter, texts: Sequence[str]) -> tuple[Filter, ...]:
    try:
        return tuple(map(parse_filter, texts))
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def _complete_filter(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    """Complete the keys, and the device types after `device=`."""
    devices = ["device=CPU", "device=GPU", "device=NPU"]
    candidates = devices if incomplete.startswith("device=") else [f"{key}=" for key in FILTER_KEYS]
    return [candidate for candidate in candidates if candidate.startswith(incomplete)]


filter_option = click.option(
    "--filter",
    "filters",
    callback=_parse_filters,
    shell_complete=_complete_filter,
    metavar="KEY=VALUE",
    multiple=True,
    help="List only models with this device, task, alias, provider, ...; VALUE may contain * and start with !.",
)
"""Adds the repeatable option `--filter` as the argument `filters`: a tuple of `Filter`."""

"""Which variants the words of a command mean: the name of a model and `--device`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from cupola.contracts.models import ModelInfo, ModelStatus
from cupola_server.cli.completing import model_names
from cupola_server.cli.foundry.failing import FoundryFailure

if TYPE_CHECKING:
    from cupola.engine import Engine

ANY_DEVICE = "Auto"
_DEVICES = (ANY_DEVICE, "CPU", "GPU", "NPU")


def _complete(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    """Offer the devices to a shell, in the letters in which help shows them."""
    return [device for device in _DEVICES if device.lower().startswith(incomplete.lower())]


model_argument = click.argument("name", metavar="model", shell_complete=model_names)
device_option = click.option(
    "--device",
    type=click.Choice(_DEVICES, case_sensitive=False),
    shell_complete=_complete,
    default=ANY_DEVICE,
    show_default=True,
    help="The device to run the model on",
)

ttl_option = click.option(
    "--ttl",
    "ttl_s",
    type=click.IntRange(min=0),
    metavar="seconds",
    default=600,
    show_default=True,
    help="Idle time after which the model is unloaded",
)


async def variants(engine: "Engine", name: str, device: str) -> Sequence[ModelStatus]:
    """Find the variants that a name means on a device, best first.

    Raises:
        ModelNotFoundError: No catalog knows the name.
        FoundryFailure: There is none for that device.
    """
    found = await engine.variants(name)
    fitting = [each for each in found if device in (ANY_DEVICE, each.info.device)]
    if not fitting:
        others = ", ".join(sorted({each.info.device for each in found}))
        raise FoundryFailure(f"Model {name} was not found in the catalog for device {device}, only for {others}")
    return fitting


async def chosen(engine: "Engine", name: str, device: str) -> ModelStatus:
    """Choose among them: what is here before what is not, then the best.

    Raises:
        ModelNotFoundError, NoProviderError, FoundryFailure: There is none, or none that runs here.
    """
    if device == ANY_DEVICE:
        return await engine.resolve(name)
    found = await variants(engine, name, device)
    return next((each for each in found if each.cached), found[0])


def infos(statuses: Sequence[ModelStatus]) -> list[ModelInfo]:
    """Return what the catalog says of models."""
    return [each.info for each in statuses]

"""`service set`: change settings for good, and show them as Foundry Local does."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from cupola_server.cli.invocation import Invocation
from cupola_server.cli.service.starting import restart_it
from cupola_server.cli.tables import show_json

if TYPE_CHECKING:
    from cupola.settings import Settings

# The levels as .NET numbers and names them; ours on the right.
_LEVELS = ("debug", "debug", "info", "warning", "error", "critical", "critical")
_LEVEL_NAMES = ("trace", "debug", "information", "warning", "error", "critical", "none")


def _level(ctx: click.Context, _: click.Parameter, value: str | None) -> str | None:
    """Return Cupola's word for a level that is given by its name, its number, or that word."""
    word = (value or "").lower()
    if value is None or word in _LEVELS:
        return value and word
    number = int(word) if word.isdigit() else _LEVEL_NAMES.index(word) if word in _LEVEL_NAMES else -1
    if not 0 <= number < len(_LEVELS):
        names = ", ".join(name.capitalize() for name in _LEVEL_NAMES)
        raise click.BadParameter(f"{value!r} is none of {names}.", ctx=ctx)
    return _LEVELS[number]


@click.command("set")
@click.option("--host", help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), help="Where to listen; 0: any free port.")
@click.option("--cachedir", type=click.Path(file_okay=False, resolve_path=True), help="Folder of the models.")
@click.option("--ttl", type=click.FloatRange(0), help="Idle seconds before a model is unloaded; 0 keeps it.")
@click.option(
    "--default-log-level",
    metavar="LEVEL",
    callback=_level,
    help="The least to log: Trace, Debug, Information …",
)
@click.option("--show", is_flag=True, help="Show the settings.")
@click.pass_obj
def set_(invocation: Invocation, /, show: bool, **given: object) -> None:
    """Change settings of the service, which is restarted."""
    keys = {
        "host": "server.host",
        "port": "service.port",
        "cachedir": "cache.dir",
        "ttl": "models.ttl_s",
        "default_log_level": "service.log_level",
    }
    changes: dict[str, Any] = {keys[name]: value for name, value in given.items() if value is not None}
    if not changes:
        click.echo("No settings changed")
        show_json(_as_foundry_shows(invocation.settings()))
        return
    click.echo("Saving new settings")
    restart_with(invocation, changes)
    if show:
        show_json(_as_foundry_shows(invocation.settings()))


def restart_with(invocation: Invocation, changes: Mapping[str, Any]) -> None:
    """Save settings and restart the service with them.

    Raises:
        SettingsError: A value is wrong, or the file cannot be written.
        ServiceStartError: The service does not start with them.
    """
    from cupola_server.cli.settings_file import write_settings  # noqa: PLC0415

    before = invocation.settings()
    write_settings(invocation.settings_path(), changes)
    _mention_overruled(invocation.settings(), changes)
    click.echo("Restarting service...")
    _restart(invocation, before)


def _mention_overruled(settings: "Settings", changes: Mapping[str, object]) -> None:
    for key, value in changes.items():
        section, _, name = key.partition(".")
        if getattr(getattr(settings, section), name) != value:
            click.echo(f"{key} stays as it is: an environment variable or --set says otherwise, and wins.", err=True)


def _restart(invocation: Invocation, before: "Settings") -> None:
    """Restart the service; one of the former cache ends with it."""
    from cupola.discovery import stop_service  # noqa: PLC0415

    stop_service(before)
    restart_it(invocation)


def _as_foundry_shows(settings: "Settings") -> dict[str, Any]:
    from cupola.discovery import ServiceFiles  # noqa: PLC0415

    return {
        "defaultLogLevel": _LEVELS.index(settings.service.log_level, 1),
        "serviceSettings": {
            "host": settings.server.host,
            "port": settings.service.port,
            "cacheDirectoryPath": str(settings.cache_dir),
            "schema": "http",
            "pipeName": str(ServiceFiles.of(settings).socket),
            "defaultSecondsForModelTTL": round(settings.models.ttl_s),
            "initialConnectionTimeoutInSeconds": round(settings.service.start_timeout_s),
        },
    }

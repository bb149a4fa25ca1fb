"""`service set`: change settings permanently, and show them as Foundry Local does."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from cupola_server.cli.invocation import Invocation
from cupola_server.cli.service.commands import restart_service
from cupola_server.cli.ui.tables import show_json

if TYPE_CHECKING:
    from cupola.settings import Settings

# The log levels of .NET by number: their names there, and Cupola's levels.
_LEVEL_NAMES = ("trace", "debug", "information", "warning", "error", "critical", "none")
_LEVELS = ("debug", "debug", "info", "warning", "error", "critical", "critical")


def _parse_level(ctx: click.Context, _: click.Parameter, value: str | None) -> str | None:
    """Return Cupola's name of a level given by its .NET name, its number or Cupola's name."""
    word = (value or "").lower()
    if value is None or word in _LEVELS:
        return value and word
    number = int(word) if word.isdigit() else _LEVEL_NAMES.index(word) if word in _LEVEL_NAMES else -1
    if not 0 <= number < len(_LEVELS):
        names = ", ".join(name.capitalize() for name in _LEVEL_NAMES)
        raise click.BadParameter(f"Unknown log level {value!r}. Available: {names}.", ctx=ctx)
    return _LEVELS[number]


@click.command("set")
@click.option("--host", help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on; 0: any free port.")
@click.option("--cachedir", type=click.Path(file_okay=False, resolve_path=True), help="Folder of the models.")
@click.option("--ttl", type=click.FloatRange(0), help="Idle seconds before a model is unloaded; 0 keeps it loaded.")
@click.option(
    "--default-log-level",
    metavar="LEVEL",
    callback=_parse_level,
    help="Lowest level to log: Trace, Debug, Information, ...",
)
@click.option("--show", is_flag=True, help="Show the settings.")
@click.pass_obj
def set_(invocation: Invocation, /, show: bool, **options: object) -> None:
    """Change settings and restart the service with them."""
    keys = {
        "host": "server.host",
        "port": "service.port",
        "cachedir": "cache.dir",
        "ttl": "models.ttl_s",
        "default_log_level": "service.log_level",
    }
    changes: dict[str, Any] = {keys[name]: value for name, value in options.items() if value is not None}
    if not changes:
        click.echo("No settings changed")
        show_json(_foundry_settings(invocation.settings()))
        return
    click.echo("Saving new settings")
    save_and_restart(invocation, changes)
    if show:
        show_json(_foundry_settings(invocation.settings()))


def save_and_restart(invocation: Invocation, changes: Mapping[str, Any]) -> None:
    """Write "section.key" settings to the settings file and restart the service.

    Raises:
        SettingsError: A value is invalid, or the file cannot be written.
        ServiceStartError: The service does not start with the new settings.
    """
    from cupola.discovery import stop_service  # noqa: PLC0415
    from cupola_server.cli.settings_file import write_settings  # noqa: PLC0415

    previous = invocation.settings()
    write_settings(invocation.settings_path(), changes)
    _warn_of_overrides(invocation.settings(), changes)
    click.echo("Restarting service...")
    stop_service(previous)  # a changed cache folder means another service
    restart_service(invocation)


def _warn_of_overrides(settings: "Settings", changes: Mapping[str, object]) -> None:
    for key, value in changes.items():
        section, _, name = key.partition(".")
        if getattr(getattr(settings, section), name) != value:
            message = "was saved but has no effect: an environment variable or --set takes precedence."
            click.echo(f"{key} {message}", err=True)


def _foundry_settings(settings: "Settings") -> dict[str, Any]:
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

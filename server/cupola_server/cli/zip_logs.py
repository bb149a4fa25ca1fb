"""`cupola zip-logs`: one file with what somebody needs to find out why things do not work."""

import platform
import sys
import time
import zipfile
from collections.abc import Iterator
from importlib.metadata import distributions
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cupola_server.cli.invocation import Invocation

if TYPE_CHECKING:
    from cupola.settings import Settings

_SECRET = ("key", "token", "secret", "password")
_HIDDEN = "(hidden)"


@click.command("zip-logs", short_help="Pack logs, settings and versions for a report.")
@click.option("--to", "target", type=click.Path(path_type=Path), help="The file; by default a new one in this folder.")
@click.pass_obj
def zip_logs(invocation: Invocation, target: Path | None) -> None:
    """Pack the service's logs, settings and versions into a file for a report.

    Logs hold no prompts and no answers. Settings that are secret are left out.
    """
    path = target or Path(time.strftime("cupola-logs-%Y%m%d-%H%M%S.zip"))
    number = write_logs(invocation, path)
    click.echo(f"{path.absolute()} has {number} log file{'' if number == 1 else 's'}, the settings and the versions.")


def write_logs(invocation: Invocation, path: Path) -> int:
    """Write the file.

    Returns:
        How many log files are in it.

    Raises:
        SettingsError: The settings cannot be read.
        ClickException: The file cannot be written.
    """
    import msgspec  # noqa: PLC0415

    settings = invocation.settings()
    logs = list(_log_files(settings))
    about = msgspec.json.format(msgspec.json.encode(_about(invocation, settings)), indent=2)
    try:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("about.json", about)
            for log in logs:
                archive.write(log, f"logs/{log.name}")
    except OSError as error:
        raise click.ClickException(f"{path} cannot be written: {error.strerror}.") from error
    return len(logs)


def _log_files(settings: "Settings") -> Iterator[Path]:
    """Find the logs of the services of all caches, and what those that crashed left."""
    yield from sorted(path for path in settings.log_dir.glob("service-*.log*") if path.is_file())
    for path in sorted(settings.service_dir.glob("*/agent.stderr")):
        if path.stat().st_size:
            yield path


def _about(invocation: Invocation, settings: "Settings") -> dict[str, Any]:
    import msgspec  # noqa: PLC0415
    import psutil  # noqa: PLC0415

    plugins = invocation.plugins(settings)
    return {
        "python": sys.version,
        "platform": platform.platform(),
        "processors": psutil.cpu_count(logical=False),
        "memory_bytes": psutil.virtual_memory().total,
        "packages": {each.name: each.version for each in sorted(distributions(), key=lambda each: each.name.lower())},
        "plugins": [record.name for record in plugins.records],
        "plugin_failures": [[each.plugin, each.stage, str(each.error)] for each in plugins.failures],
        "settings": _without_secrets(msgspec.to_builtins(settings)),
    }


def _without_secrets(value: Any) -> Any:
    """Hide whatever goes by a name that says it is secret, wherever it stands."""
    if isinstance(value, dict):
        return {
            name: _HIDDEN if inner and any(word in name.lower() for word in _SECRET) else _without_secrets(inner)
            for name, inner in value.items()
        }
    return [_without_secrets(each) for each in value] if isinstance(value, (list, tuple)) else value

"""`cupola zip-logs`: a zip file with logs, settings and versions for a bug report."""

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

_SECRET_WORDS = ("key", "token", "secret", "password")
_HIDDEN = "(hidden)"


@click.command("zip-logs", short_help="Pack logs, settings and versions in a zip file.")
@click.option(
    "--to", "target", type=click.Path(path_type=Path), help="The zip file; by default a new one in the current folder."
)
@click.pass_obj
def zip_logs(invocation: Invocation, target: Path | None) -> None:
    """Pack the service's logs, the settings and the versions in a zip file for a bug report.

    Logs contain no prompts and no answers. Secret settings are hidden.
    """
    path = target or Path(time.strftime("cupola-logs-%Y%m%d-%H%M%S.zip"))
    count = write_logs(invocation, path)
    click.echo(
        f"Wrote {count} log file{'' if count == 1 else 's'}, the settings and the versions to {path.absolute()}."
    )


def write_logs(invocation: Invocation, path: Path) -> int:
    """Write the zip file.

    Returns:
        The number of log files in it.

    Raises:
        SettingsError: A setting is invalid.
        ClickException: The file cannot be written.
    """
    import msgspec  # noqa: PLC0415

    settings = invocation.settings()
    logs = list(_log_files(settings))
    about = msgspec.json.format(msgspec.json.encode(_describe_installation(invocation, settings)), indent=2)
    try:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("about.json", about)
            for log in logs:
                archive.write(log, f"logs/{log.name}")
    except OSError as error:
        raise click.ClickException(f"Cannot write {path}: {error.strerror}.") from error
    return len(logs)


def _log_files(settings: "Settings") -> Iterator[Path]:
    """Yield the logs of the services of all caches, and the stderr of those that crashed."""
    yield from sorted(path for path in settings.log_dir.glob("service-*.log*") if path.is_file())
    for path in sorted(settings.service_dir.glob("*/agent.stderr")):
        if path.stat().st_size:
            yield path


def _describe_installation(invocation: Invocation, settings: "Settings") -> dict[str, Any]:
    import msgspec  # noqa: PLC0415
    import psutil  # noqa: PLC0415

    plugins = invocation.plugins(settings)
    packages = sorted(distributions(), key=lambda package: package.name.lower())
    return {
        "python": sys.version,
        "platform": platform.platform(),
        "processors": psutil.cpu_count(logical=False),
        "memory_bytes": psutil.virtual_memory().total,
        "packages": {package.name: package.version for package in packages},
        "plugins": [record.name for record in plugins.records],
        "plugin_failures": [[failure.plugin, failure.stage, str(failure.error)] for failure in plugins.failures],
        "settings": _hide_secrets(msgspec.to_builtins(settings)),
    }


def _hide_secrets(value: Any) -> Any:
    """Replace the values whose names suggest a secret, at any depth."""
    if isinstance(value, dict):
        return {
            name: _HIDDEN if inner and any(word in name.lower() for word in _SECRET_WORDS) else _hide_secrets(inner)
            for name, inner in value.items()
        }
    return [_hide_secrets(item) for item in value] if isinstance(value, (list, tuple)) else value

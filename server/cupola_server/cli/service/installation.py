"""`service install`: register the service with the system, to start when the user logs in."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from cupola_server.cli.invocation import Invocation

if TYPE_CHECKING:
    from cupola.settings import Settings

System = Literal["systemd", "launchd", "windows"]

_THIS: System = {"darwin": "launchd", "win32": "windows"}.get(sys.platform, "systemd")  # type: ignore[assignment]


@click.command(short_help="Start the service at login.")
@click.option(
    "--system",
    type=click.Choice(["systemd", "launchd", "windows"]),
    default=_THIS,
    show_default=True,
    help="The service manager.",
)
@click.option("--print", "printed", is_flag=True, help="Print the unit instead of writing the file.")
@click.option("--remove", is_flag=True, help="Delete the file.")
@click.pass_obj
def install(invocation: Invocation, system: System, printed: bool, remove: bool) -> None:
    """Start the service at login: write a unit file and show the command that enables it."""
    settings = invocation.settings()
    path = _unit_path(system, settings)
    if remove:
        _remove(path, system)
        return
    text = _unit_text(system, invocation.agent_command(), settings)
    if printed:
        click.echo(text, nl=False)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-16" if system == "windows" else "utf-8")
    click.echo(f"Wrote {path}")
    click.echo(f"Enable it with: {_enable_command(system, path)}")
    _warn_of_variables()


def _unit_text(system: System, command: list[str], settings: "Settings") -> str:
    from cupola_server.agent import units  # noqa: PLC0415

    drain_timeout_s = settings.server.drain_timeout_s
    if system == "windows":
        return units.scheduled_task(command)
    make = units.systemd_unit if system == "systemd" else units.launchd_plist
    return make(command, drain_timeout_s=drain_timeout_s)


def _unit_path(system: System, settings: "Settings") -> Path:
    if system == "systemd":
        configuration = Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser()
        return configuration / "systemd" / "user" / "cupola.service"
    if system == "launchd":
        return Path("~/Library/LaunchAgents/cupola.service.plist").expanduser()
    return settings.service_dir / "cupola-task.xml"


def _enable_command(system: System, path: Path) -> str:
    return {
        "systemd": "systemctl --user daemon-reload && systemctl --user enable --now cupola",
        "launchd": f'launchctl bootstrap gui/$(id -u) "{path}"',
        "windows": f'schtasks /Create /TN Cupola /XML "{path}"',
    }[system]


def _remove(path: Path, system: System) -> None:
    disable_command = {
        "systemd": "systemctl --user disable --now cupola",
        "launchd": "launchctl bootout gui/$(id -u)/cupola.service",
        "windows": "schtasks /Delete /TN Cupola",
    }[system]
    if not path.exists():
        raise click.ClickException(f"{path} does not exist.")
    path.unlink()
    click.echo(f"Deleted {path}")
    click.echo(f"If it was enabled, disable it with: {disable_command}")


def _warn_of_variables() -> None:
    """Warn of settings in this shell's environment, which the service does not see when the system starts it."""
    names = sorted(name for name in os.environ if name.startswith("CUPOLA_"))
    if names:
        message = f"The service will not see the variables of this shell: {', '.join(names)}."
        click.echo(f"{message} Use the settings file instead.", err=True)

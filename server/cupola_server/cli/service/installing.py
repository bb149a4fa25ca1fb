"""`service install`: have the system start the service when the user logs in."""

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


@click.command(short_help="Have the service started at login.")
@click.option(
    "--system",
    type=click.Choice(["systemd", "launchd", "windows"]),
    default=_THIS,
    show_default=True,
    help="For which service manager.",
)
@click.option("--print", "printed", is_flag=True, help="Print it instead of writing the file.")
@click.option("--remove", is_flag=True, help="Delete the file again.")
@click.pass_obj
def install(invocation: Invocation, system: System, printed: bool, remove: bool) -> None:
    """Have the service started at login: writes a unit, and says how to switch it on."""
    settings = invocation.settings()
    path = _place(system, settings)
    if remove:
        _remove(path, system)
        return
    text = _text(system, invocation.agent_command(), settings)
    if printed:
        click.echo(text, nl=False)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-16" if system == "windows" else "utf-8")
    click.echo(f"Wrote {path}")
    click.echo(f"Switch it on with: {_switch_on(system, path)}")
    _mention_variables()


def _text(system: System, command: list[str], settings: "Settings") -> str:
    from cupola_server.agent import units  # noqa: PLC0415

    drain_timeout_s = settings.server.drain_timeout_s
    if system == "windows":
        return units.scheduled_task(command)
    make = units.systemd_unit if system == "systemd" else units.launchd_plist
    return make(command, drain_timeout_s=drain_timeout_s)


def _place(system: System, settings: "Settings") -> Path:
    if system == "systemd":
        configuration = Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser()
        return configuration / "systemd" / "user" / "cupola.service"
    if system == "launchd":
        return Path("~/Library/LaunchAgents/cupola.service.plist").expanduser()
    return settings.service_dir / "cupola-task.xml"


def _switch_on(system: System, path: Path) -> str:
    return {
        "systemd": "systemctl --user daemon-reload && systemctl --user enable --now cupola",
        "launchd": f'launchctl bootstrap gui/$(id -u) "{path}"',
        "windows": f'schtasks /Create /TN Cupola /XML "{path}"',
    }[system]


def _remove(path: Path, system: System) -> None:
    switch_off = {
        "systemd": "systemctl --user disable --now cupola",
        "launchd": "launchctl bootout gui/$(id -u)/cupola.service",
        "windows": "schtasks /Delete /TN Cupola",
    }[system]
    if not path.exists():
        raise click.ClickException(f"{path} is not there.")
    path.unlink()
    click.echo(f"Deleted {path}")
    click.echo(f"If it was switched on: {switch_off}")


def _mention_variables() -> None:
    """Say which settings of this shell the service will not see when the system starts it."""
    names = sorted(name for name in os.environ if name.startswith("CUPOLA_"))
    if names:
        click.echo(f"Set in this shell only, and not seen by it: {', '.join(names)}. Use the settings file.", err=True)

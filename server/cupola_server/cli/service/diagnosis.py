"""`service diag`: what the service is, and the end of its log."""

import platform
import sys
from collections import deque
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cupola_server.cli.invocation import Invocation

if TYPE_CHECKING:
    from cupola.discovery import ServiceFiles


@click.command(short_help="Show what the service is, and its log.")
@click.option("--logs", "logs_only", is_flag=True, help="Show the log alone.")
@click.option("-n", "--lines", type=click.IntRange(0), default=50, show_default=True, help="Lines of the log.")
@click.option("-f", "--follow", is_flag=True, help="Go on showing the log until Ctrl+C.")
@click.pass_obj
def diag(invocation: Invocation, logs_only: bool, lines: int, follow: bool) -> None:
    """Show what helps to find out why the service does not do what it should."""
    from cupola.discovery import ServiceFiles, find_service  # noqa: PLC0415

    settings = invocation.settings()
    files = ServiceFiles.of(settings)
    if not logs_only:
        info = find_service(settings)
        facts = {
            "Service": f"running on {info.url}/, PID {info.pid}" if info else "not running",
            "Socket": info.socket if info else "",
            "Cache": str(settings.cache_dir),
            "Log": str(files.log),
            "Cupola": f"{version('cupola')} on Python {platform.python_version()}, {platform.platform()}",
        }
        for name, fact in facts.items():
            if fact:
                click.echo(f"{name:<8} {fact}")
        click.echo()
    _show_log(files, lines)
    if follow:
        _follow(files.log)


def _show_log(files: "ServiceFiles", lines: int) -> None:
    """Show the last lines of the log, then what a crash left."""
    for path, count in ((files.log, lines), (files.stderr, lines)):
        try:
            with path.open(encoding="utf-8", errors="replace") as file:
                for line in deque(file, maxlen=count):
                    click.echo(line.rstrip("\n"))
        except FileNotFoundError:
            if path == files.log:
                click.echo("Nothing is logged yet.", err=True)


def _follow(path: Path) -> None:
    import time  # noqa: PLC0415

    position = path.stat().st_size if path.exists() else 0
    while True:
        size = path.stat().st_size if path.exists() else 0
        position = 0 if size < position else position  # a new file was begun
        if size > position:
            with path.open("rb") as file:
                file.seek(position)
                data = file.read()
            position += len(data)
            click.echo(data.decode(errors="replace"), nl=False)
            sys.stdout.flush()
        time.sleep(0.2)  # a file says nothing of what is added to it

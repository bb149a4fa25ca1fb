"""The import process: `python -m cupola_plugins.gguf SOURCE FOLDER --layout LAYOUT`. Writes lines of JSON."""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

from cupola.catalog import ProgressEvent
from cupola.errors import CupolaError, to_wire
from cupola_plugins.gguf.converter import DoneLine, Line, ProgressLine, encode
from cupola_plugins.gguf.files import Layout

Work = Callable[[Path, Path, Layout, Callable[[ProgressEvent], None]], None]


def run(work: Work, program: str, description: str | None, arguments: list[str] | None = None) -> int:
    """Run `work` with the parsed arguments. Write progress and the outcome to standard output; return the exit code."""
    parser = argparse.ArgumentParser(prog=program, description=description)
    parser.add_argument("source", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--layout", type=Layout, default=Layout.INT8_ROWS, choices=list(Layout))
    options = parser.parse_args(arguments)
    try:
        work(options.source, options.folder, options.layout, _report)
    except CupolaError as error:
        _write_line(to_wire(error))
        return 1
    _write_line(DoneLine())
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Import one file."""
    return run(_import, "python -m cupola_plugins.gguf", __doc__, arguments)


def _import(source: Path, folder: Path, layout: Layout, progress: Callable[[ProgressEvent], None]) -> None:
    from cupola_plugins.gguf.importer import import_gguf  # noqa: PLC0415 - heavy, and not needed for --help

    import_gguf(source, folder, layout=layout, progress=progress)


def _report(event: ProgressEvent) -> None:
    _write_line(ProgressLine(event))


def _write_line(line: Line) -> None:
    """Write a line unbuffered. Raises when the parent is gone; the import then stops and cleans up."""
    os.write(sys.stdout.fileno(), encode(line))


if __name__ == "__main__":
    sys.exit(main())

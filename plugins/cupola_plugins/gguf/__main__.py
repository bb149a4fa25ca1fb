"""The importing process: `python -m cupola_plugins.gguf SOURCE FOLDER --layout LAYOUT`. Speaks lines of JSON."""

import argparse
import os
import sys
from pathlib import Path

from cupola import CupolaError, ProgressEvent
from cupola.errors import to_wire
from cupola_plugins.gguf.layout import Layout
from cupola_plugins.gguf.lines import DoneLine, Line, ProgressLine, encode


def main(arguments: list[str] | None = None) -> int:
    """Import one file; report progress, and how it ended, on standard output."""
    parser = argparse.ArgumentParser(prog="python -m cupola_plugins.gguf", description=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--layout", type=Layout, default=Layout.INT8_ROWS, choices=list(Layout))
    options = parser.parse_args(arguments)

    from cupola_plugins.gguf.importer import import_gguf  # noqa: PLC0415 - heavy, and of no use to --help

    try:
        import_gguf(options.source, options.folder, layout=options.layout, progress=_report)
    except CupolaError as error:
        _say(to_wire(error))
        return 1
    _say(DoneLine())
    return 0


def _report(event: ProgressEvent) -> None:
    _say(ProgressLine(event))


def _say(line: Line) -> None:
    """Write a line at once. When the parent is gone this raises, and the import ends and cleans up."""
    os.write(sys.stdout.fileno(), encode(line))


if __name__ == "__main__":
    sys.exit(main())

"""The conversion process: `python -m cupola_plugins.relayout SOURCE FOLDER --layout LAYOUT`. Writes lines of JSON."""

import sys
from collections.abc import Callable
from pathlib import Path

from cupola.catalog import ProgressEvent
from cupola_plugins.gguf.__main__ import run
from cupola_plugins.gguf.files import Layout


def _rewrite(source: Path, folder: Path, layout: Layout, progress: Callable[[ProgressEvent], None]) -> None:
    from cupola_plugins.relayout.rewriter import rewrite  # noqa: PLC0415 - heavy, and not needed for --help

    rewrite(source, folder, layout=layout, progress=progress)


if __name__ == "__main__":
    sys.exit(run(_rewrite, "python -m cupola_plugins.relayout", __doc__))

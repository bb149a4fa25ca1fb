"""What a run needs from the command line: engines with other settings, and the words that start `cupola` again."""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cupola.engine import Engine


@dataclass(frozen=True, slots=True)
class Host:
    """Made by the command line, and by tests.

    Attributes:
        open_engine: Opens an engine; its arguments are settings, "section.key=value".
        command: Starts the program with the settings of this one.
        measurements: Where placement looks for what was measured; None keeps nothing.
    """

    open_engine: "Callable[..., AbstractAsyncContextManager[Engine]]"
    command: Sequence[str]
    measurements: Path | None = None

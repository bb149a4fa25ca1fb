"""Progress bars for a terminal. Imports rich, so only `progress` imports this, when there is a terminal."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from cupola.contracts import Progress as ProgressCallback
from cupola.contracts import ProgressEvent
from cupola_server.cli.phases import amount_text, headline, rate_text


@contextmanager
def progress_bars(model: str) -> Iterator[ProgressCallback]:
    """Show a bar per phase until the block ends, then wipe them."""
    console = Console(stderr=True, markup=False, highlight=False)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[amount]}", markup=False),
        _RateColumn(),
        TimeRemainingColumn(compact=True, elapsed_when_finished=True),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        yield _Bars(progress, model)


class _RateColumn(ProgressColumn):
    """How much arrives per second; only bytes are worth it."""

    def render(self, task: Task) -> Text:
        return Text(rate_text(task.speed or 0.0, task.fields["unit"]))


class _Bars:
    def __init__(self, progress: Progress, model: str) -> None:
        self._progress = progress
        self._model = model
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, event: ProgressEvent) -> None:
        """Take an event. An unknown total makes the bar pulse."""
        total = event.total or None
        if event.phase not in self._tasks:
            self._finish_others()
            description = headline(event.phase, self._model)
            self._tasks[event.phase] = self._progress.add_task(description, total=total, amount="", unit=event.unit)
        self._progress.update(self._tasks[event.phase], completed=event.done, total=total, amount=amount_text(event))

    def _finish_others(self) -> None:
        for task in self._progress.tasks:
            if not task.finished:
                self._progress.update(task.id, total=task.total or 1, completed=task.total or 1)

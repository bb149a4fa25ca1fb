"""Progress bars in a terminal. Imports rich, so `progress` imports this module only if stderr is a terminal."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from cupola.contracts import Progress as ProgressCallback
from cupola.contracts import ProgressEvent
from cupola_server.cli.ui.progress import format_amount, format_download, format_phase, format_rate

if TYPE_CHECKING:
    from cupola.client.api import Download


@contextmanager
def progress_bars(model: str) -> Iterator[ProgressCallback]:
    """Show a bar for each phase; they are erased when the block ends."""
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
    """The rate of phases that count bytes."""

    def render(self, task: Task) -> Text:
        return Text(format_rate(task.speed or 0.0, task.fields["unit"]))


class _Bars:
    def __init__(self, progress: Progress, model: str) -> None:
        self._progress = progress
        self._model = model
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, event: ProgressEvent) -> None:
        """Handle an event. The bar pulses while the total is unknown."""
        total = event.total or None
        if event.phase not in self._tasks:
            self._finish_others()
            description = format_phase(event.phase, self._model)
            self._tasks[event.phase] = self._progress.add_task(description, total=total, amount="", unit=event.unit)
        self._progress.update(self._tasks[event.phase], completed=event.done, total=total, amount=format_amount(event))

    def _finish_others(self) -> None:
        for task in self._progress.tasks:
            if not task.finished:
                self._progress.update(task.id, total=task.total or 1, completed=task.total or 1)


@contextmanager
def download_bars() -> "Iterator[Callable[[Sequence[Download]], None]]":
    """Show a bar for each download of a service; they remain when the block ends."""
    console = Console(stderr=True, markup=False, highlight=False)
    texts = (TextColumn(f"{{task.fields[{name}]}}", markup=False) for name in ("amount", "rate", "left"))
    with Progress(TextColumn("{task.description}", markup=False), BarColumn(), *texts, console=console) as progress:
        yield _DownloadBars(progress)


class _DownloadBars:
    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, downloads: "Sequence[Download]") -> None:
        """Handle the current state of the downloads."""
        for download in downloads:
            texts, running = format_download(download), download.state == "running"
            if download.id not in self._tasks:
                self._tasks[download.id] = self._progress.add_task("", amount="", rate="", left="")
            self._progress.update(
                self._tasks[download.id],
                description=format_phase(download.phase, download.alias)
                if running
                else f"{download.alias}: {download.state}",
                completed=download.done,
                total=download.total or None,
                amount=texts.amount,
                rate=texts.rate,
                left=texts.left,
            )

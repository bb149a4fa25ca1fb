"""Progress bars for a terminal. Imports rich, so only `progress` imports this, when there is a terminal."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from cupola.contracts import Progress as ProgressCallback
from cupola.contracts import ProgressEvent
from cupola_server.cli.phases import amount_text, download_texts, headline, rate_text

if TYPE_CHECKING:
    from cupola.client.api import Download


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


@contextmanager
def download_bars() -> "Iterator[Callable[[Sequence[Download]], None]]":
    """Show a bar for each download of a service; they stay when the block ends."""
    console = Console(stderr=True, markup=False, highlight=False)
    texts = (TextColumn(f"{{task.fields[{name}]}}", markup=False) for name in ("amount", "rate", "left"))
    with Progress(TextColumn("{task.description}", markup=False), BarColumn(), *texts, console=console) as progress:
        yield _DownloadBars(progress)


class _DownloadBars:
    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, downloads: "Sequence[Download]") -> None:
        """Take note of how they are now."""
        for each in downloads:
            texts, running = download_texts(each), each.state == "running"
            if each.id not in self._tasks:
                self._tasks[each.id] = self._progress.add_task("", amount="", rate="", left="")
            self._progress.update(
                self._tasks[each.id],
                description=headline(each.phase, each.alias) if running else f"{each.alias}: {each.state}",
                completed=each.done,
                total=each.total or None,
                amount=texts.amount,
                rate=texts.rate,
                left=texts.left,
            )

"""Words for how far a long piece of work is."""

from typing import TYPE_CHECKING

from msgspec import Struct

from cupola.contracts import ProgressEvent
from cupola_server.cli.tables import size_text

if TYPE_CHECKING:
    from cupola.client.api import Download

LOADING = ProgressEvent("load", 0, 0, "")

_VERBS = {
    "download": "Downloading",
    "import": "Importing",
    "load": "Loading",
    "verify": "Checking",
    "export": "Exporting",
}


def headline(phase: str, model: str) -> str:
    """Return "Downloading smollm2-135m"."""
    return f"{_VERBS.get(phase, phase.capitalize())} {model}"


def amount_text(event: ProgressEvent) -> str:
    """Return "12 MB of 93 MB" or "3 of 30 layers", or nothing when nothing is counted."""
    if event.unit == "bytes":
        done, total = size_text(event.done) or "0 MB", size_text(event.total)
        return f"{done} of {total}" if total else done
    if not event.total:
        return f"{event.done} {event.unit}" if event.done else ""
    return f"{event.done} of {event.total} {event.unit}"


def rate_text(per_s: float, unit: str) -> str:
    """Return "12 MB/s"; nothing for what is not bytes, or does not move."""
    return f"{size_text(int(per_s))}/s" if unit == "bytes" and per_s >= 1 else ""


class DownloadTexts(Struct, frozen=True):
    """How far a download of a service is, for people. What is not known is empty."""

    amount: str
    rate: str
    left: str


def download_texts(download: "Download") -> DownloadTexts:
    """Say how far a download is."""
    event = ProgressEvent(download.phase, download.done, download.total, download.unit)
    if download.state != "running":
        return DownloadTexts(amount_text(event), "", "")
    left = "" if download.remaining_s is None else f"{download.remaining_s:.0f} s"
    return DownloadTexts(amount_text(event), rate_text(download.per_s, download.unit), left)

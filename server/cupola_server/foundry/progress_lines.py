"""The text that a download sends, in the form in which the clients of dialect A parse it.

Four parsers read it: Python's takes lines, JavaScript's takes chunks, C#'s waits for `[DONE]` and for a line that is a
lone brace, AI Dev Gallery's skips the first line. Hence one chunk per line, and the result last, alone in its chunk,
spread over lines, with no brace inside.
"""

import json

from cupola.frontend import ProgressEvent

SUCCEEDED = b"[DONE] All Completed!\n"
FAILED = b"[DONE] Not completed.\n"
_ALL = 100.0


class ProgressLines:
    """Says how far a download is, a line at a time. The share never falls.

    What follows the download of files, such as converting them, has no share of its own: it comes as 100 %, named.

    Args:
        name: What is downloaded.
    """

    def __init__(self, name: str) -> None:
        self._name = name.replace("{", "(").replace("\n", " ")
        self._share = 0.0

    def first(self) -> bytes:
        """Return the line before anything is known."""
        return self._line("")

    def line(self, event: ProgressEvent) -> bytes:
        """Return the line for an event."""
        if event.phase == "download":
            if event.total:
                self._share = max(self._share, min(_ALL, _ALL * event.done / event.total))
            return self._line("")
        self._share = _ALL
        return self._line(f" ({event.phase} {event.done} of {event.total} {event.unit})" if event.total else "")

    def last(self) -> bytes:
        """Return the line when all is there."""
        self._share = _ALL
        return self._line("")

    def _line(self, remark: str) -> bytes:
        return f"Total {self._share:.2f}% Downloading {self._name}{remark}\n".encode()


def result(error: str | None) -> bytes:
    """Return the object that ends the stream. JavaScript's SDK looks for `error`, the others for `errorMessage`."""
    outcome: dict[str, object] = {"success": error is None, "errorMessage": error}
    if error is not None:
        plain = error.translate({ord("{"): "(", ord("}"): ")"})
        outcome |= {"errorMessage": plain, "error": plain}
    return json.dumps(outcome, indent=2).encode() + b"\n"

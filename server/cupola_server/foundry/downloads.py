"""POST /openai/download: downloads a model and streams the progress as text.

Four clients parse the text: the Python SDK reads lines, the JavaScript SDK reads chunks, the C# SDK waits for `[DONE]`
and for a line with a single brace, and AI Dev Gallery skips the first line. Therefore each line is a chunk, and the
result comes last, in its own chunk, spread over several lines, with no brace inside.
"""

import json

import anyio

from cupola.errors import CupolaError
from cupola.frontend import EngineView, ProgressEvent
from cupola_server.foundry.schema import DownloadRequest
from cupola_server.foundry.service import CaseInsensitiveDecoder
from cupola_server.openai.errors import ErrorReply, Headers, describe, unsupported
from cupola_server.openai.exchange import Exchange, Latest

_TEXT: Headers = (
    (b"content-type", b"text/plain; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
)
_SUCCEEDED = b"[DONE] All Completed!\n"
_FAILED = b"[DONE] Not completed.\n"
_COMPLETE = 100.0

# The JavaScript SDK treats everything that it reads at once as one line, so the result must arrive separately.
_RESULT_DELAY_S = 0.1


class Downloads:
    """Downloads models and streams the progress. Concurrent requests for one model share a download.

    As clients expect, failures are also reported in the stream, with status 200.
    """

    def __init__(self, engine: EngineView) -> None:
        self._engine = engine
        self._decoder = CaseInsensitiveDecoder(DownloadRequest)

    async def download(self, exchange: Exchange) -> None:
        """Download a model. If the client disconnects and nobody else waits for it, the download is cancelled."""
        name = self._model_name(await exchange.json_body())
        lines, progress = ProgressLines(name), Latest[ProgressEvent]()
        await exchange.start_stream(_TEXT, lines.first(), _stream_error)
        error: CupolaError | None = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_send_progress, exchange, lines, progress)
            try:
                await self._engine.download(name, progress.put)
            except CupolaError as caught:
                error = caught
            progress.end()
        if error is None:
            await exchange.send_events(lines.last())
        await exchange.send_events(_FAILED if error else _SUCCEEDED)
        await anyio.sleep(_RESULT_DELAY_S)
        await exchange.end_events(_result(describe(error).error.message if error else None))

    def _model_name(self, body: bytearray) -> str:
        request = self._decoder.decode(body)
        if request.token:
            raise unsupported("token", "set tokens of catalogs in the settings instead")
        if request.custom_dir_path:
            raise unsupported("customDirPath", "models are stored in the cache; set its folder with cache.dir")
        return request.model if isinstance(request.model, str) else request.model.name


class ProgressLines:
    """Formats the progress of a download as lines. The percentage never decreases.

    Phases after the download, such as a conversion, have no percentage of their own: they show 100 % and their name.

    Args:
        name: The model's name as requested.
    """

    def __init__(self, name: str) -> None:
        self._name = name.replace("{", "(").replace("\n", " ")
        self._percentage = 0.0

    def first(self) -> bytes:
        """Return the line before the first event."""
        return self._line("")

    def line(self, event: ProgressEvent) -> bytes:
        """Return the line for an event."""
        if event.phase == "download":
            if event.total:
                self._percentage = max(self._percentage, min(_COMPLETE, _COMPLETE * event.done / event.total))
            return self._line("")
        self._percentage = _COMPLETE
        return self._line(f" ({event.phase} {event.done} of {event.total} {event.unit})" if event.total else "")

    def last(self) -> bytes:
        """Return the line for a complete download."""
        self._percentage = _COMPLETE
        return self._line("")

    def _line(self, remark: str) -> bytes:
        return f"Total {self._percentage:.2f}% Downloading {self._name}{remark}\n".encode()


async def _send_progress(exchange: Exchange, lines: ProgressLines, progress: Latest[ProgressEvent]) -> None:
    sent = lines.first()
    while (event := await progress.next()) is not None:
        line = lines.line(event)
        if line != sent:
            await exchange.send_events(line)
            sent = line


def _stream_error(reply: ErrorReply) -> bytes:
    return _result(reply.error.message)


def _result(error: str | None) -> bytes:
    """Return the object that ends the stream. The JavaScript SDK reads `error`, the others `errorMessage`."""
    outcome: dict[str, object] = {"success": error is None, "errorMessage": error}
    if error is not None:
        plain = error.translate({ord("{"): "(", ord("}"): ")"})
        outcome |= {"errorMessage": plain, "error": plain}
    return json.dumps(outcome, indent=2).encode() + b"\n"

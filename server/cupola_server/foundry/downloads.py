"""POST /openai/download."""

from typing import Any

import anyio
import msgspec

from cupola.errors import CupolaError
from cupola.frontend import EngineView, ProgressEvent
from cupola_server.foundry.lowering import lowered
from cupola_server.foundry.progress_lines import FAILED, SUCCEEDED, ProgressLines, result
from cupola_server.foundry.schema import DownloadRequest
from cupola_server.openai.conversation import unsupported
from cupola_server.openai.decoding import BodyDecoder
from cupola_server.openai.errors import ErrorReply, Headers, describe
from cupola_server.openai.exchange import Exchange

_TEXT: Headers = (
    (b"content-type", b"text/plain; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
)

# JavaScript's SDK takes what it reads at once for one line, and misses a result that comes with the line before it.
_APART_S = 0.1


class Downloads:
    """Brings models, and tells how far it is. Who asks for one that is under way joins in.

    Whatever becomes of the download, it is told in the stream, with status 200, as clients expect.
    """

    def __init__(self, engine: EngineView) -> None:
        self._engine = engine
        self._raw = BodyDecoder(dict[str, Any])
        self._decoder = BodyDecoder(DownloadRequest)

    async def download(self, exchange: Exchange) -> None:
        """Bring one model. When the client leaves, and nobody else waits for it, the download is cancelled."""
        name = self._wanted(await exchange.json_body())
        lines, news = ProgressLines(name), _News()
        await exchange.start_stream(_TEXT, lines.first(), _failing)
        error: CupolaError | None = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_tell, exchange, lines, news)
            try:
                await self._engine.download(name, news.put)
            except CupolaError as caught:
                error = caught
            news.end()
        if error is None:
            await exchange.send_events(lines.last())
        await exchange.send_events(FAILED if error else SUCCEEDED)
        await anyio.sleep(_APART_S)
        await exchange.end_events(result(describe(error).error.message if error else None))

    def _wanted(self, body: bytearray) -> str:
        request = self._decoder.decode(msgspec.json.encode(lowered(self._raw.decode(body))))
        if request.token:
            raise unsupported("token", "catalogs that need one are given it in the settings")
        if request.custom_dir_path:
            raise unsupported("customDirPath", "models go to the cache, whose place the setting cache.dir says")
        return request.model if isinstance(request.model, str) else request.model.name


class _News:
    """The latest event, for a teller who may be slower than events come."""

    def __init__(self) -> None:
        self.latest: ProgressEvent | None = None
        self.ended = False
        self._changed = anyio.Event()

    def put(self, event: ProgressEvent) -> None:
        self.latest = event
        self._changed.set()

    def end(self) -> None:
        self.ended = True
        self._changed.set()

    async def wait(self) -> ProgressEvent | None:
        """Wait for the next event; None when there will be no more."""
        await self._changed.wait()
        self._changed = anyio.Event()
        return None if self.ended else self.latest


async def _tell(exchange: Exchange, lines: ProgressLines, news: _News) -> None:
    told = lines.first()
    while (event := await news.wait()) is not None:
        line = lines.line(event)
        if line != told:
            await exchange.send_events(line)
            told = line


def _failing(reply: ErrorReply) -> bytes:
    return result(reply.error.message)

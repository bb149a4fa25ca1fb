"""Downloads over HTTP: waited for, watched, or only begun."""

import anyio
import msgspec

from cupola.client.api import Cancelled, CancelRequest, Download, DownloadRequest, Downloads
from cupola.errors import CupolaError
from cupola.frontend import DownloadStatus, EngineView, ModelInfo, ProgressEvent
from cupola_server.openai.decoding import BodyDecoder
from cupola_server.openai.exchange import Exchange
from cupola_server.openai.replies import sse_event

_INTERVAL_S = 0.1


class Downloading:
    """Brings models into the cache."""

    def __init__(self, engine: EngineView) -> None:
        self._engine = engine
        self._request = BodyDecoder(DownloadRequest)
        self._cancel = BodyDecoder(CancelRequest)

    async def bring(self, exchange: Exchange) -> None:
        """Bring a model and wait for it, telling of the progress if that is asked for."""
        request = self._request.decode(await exchange.json_body())
        info = (await self._engine.resolve(request.model)).info
        if request.stream:
            await self._streamed(exchange, info)
        else:
            await self._engine.download(info.id)
            await exchange.reply(200, msgspec.json.encode(_done(info)))

    async def start(self, exchange: Exchange) -> None:
        """Begin to bring a model."""
        request = self._request.decode(await exchange.json_body())
        status = await self._engine.start_download(request.model)
        await exchange.reply(200, msgspec.json.encode(_described(status)))

    async def list(self, exchange: Exchange) -> None:
        """List the downloads under way and the last ones that ended."""
        downloads = Downloads(tuple(map(_described, self._engine.downloads())))
        await exchange.reply(200, msgspec.json.encode(downloads))

    async def cancel(self, exchange: Exchange) -> None:
        """End a download."""
        request = self._cancel.decode(await exchange.json_body())
        await exchange.reply(200, msgspec.json.encode(Cancelled(self._engine.cancel_download(request.model))))

    async def _streamed(self, exchange: Exchange, info: ModelInfo) -> None:
        latest = _Latest()
        failure: CupolaError | None = None
        await exchange.start_events(sse_event(msgspec.json.encode(self._now(info, ProgressEvent("download", 0, 0)))))
        async with anyio.create_task_group() as tasks:

            async def tell() -> None:
                while True:
                    progress = await latest.next()
                    await exchange.send_events(sse_event(msgspec.json.encode(self._now(info, progress))))
                    await anyio.sleep(_INTERVAL_S)  # nobody can read faster; what comes meanwhile is left out

            tasks.start_soon(tell)
            try:
                await self._engine.download(info.id, latest.set)
            except CupolaError as error:
                failure = error  # not raised here, where it would leave in a group
            tasks.cancel_scope.cancel()
        if failure:
            raise failure
        await exchange.end_events(sse_event(msgspec.json.encode(_done(info))))

    def _now(self, info: ModelInfo, progress: ProgressEvent) -> Download:
        status = next((each for each in self._engine.downloads() if each.info.id == info.id), None)
        if status and status.state == "running":
            return _described(status)
        return _described(DownloadStatus(info, "running", progress))


class _Latest:
    """The last progress, for a reader that may be slower than it comes."""

    def __init__(self) -> None:
        self._progress: ProgressEvent | None = None
        self._come = anyio.Event()

    def set(self, progress: ProgressEvent) -> None:
        self._progress = progress
        self._come.set()

    async def next(self) -> ProgressEvent:
        await self._come.wait()
        self._come = anyio.Event()
        assert self._progress is not None
        return self._progress


def _done(info: ModelInfo) -> Download:
    progress = ProgressEvent("download", info.size_bytes, info.size_bytes)
    return _described(DownloadStatus(info, "done", progress))


def _described(status: DownloadStatus) -> Download:
    progress = status.progress
    return Download(
        id=status.info.id,
        alias=status.info.alias,
        state=status.state,
        phase=progress.phase,
        done=progress.done,
        total=progress.total,
        unit=progress.unit,
        per_s=status.per_s,
        remaining_s=status.remaining_s,
        error=status.error,
    )

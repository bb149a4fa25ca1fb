"""Downloads over HTTP, in the foreground with progress or in the background."""

import anyio
import msgspec

from cupola.client.api import Cancelled, CancelRequest, Download, DownloadRequest, Downloads
from cupola.errors import CupolaError
from cupola.frontend import DownloadStatus, EngineView, ModelInfo, ProgressEvent
from cupola_server.openai.decoding import BodyDecoder
from cupola_server.openai.exchange import Exchange, Latest
from cupola_server.openai.replies import sse_event

_INTERVAL_S = 0.1


class DownloadEndpoints:
    """Starts, lists and cancels downloads."""

    def __init__(self, engine: EngineView) -> None:
        self._engine = engine
        self._request = BodyDecoder(DownloadRequest)
        self._cancel = BodyDecoder(CancelRequest)

    async def download(self, exchange: Exchange) -> None:
        """Download a model and wait for it, with a stream of progress events if requested."""
        request = self._request.decode(await exchange.json_body())
        info = (await self._engine.resolve(request.model)).info
        if request.stream:
            await self._stream(exchange, info)
        else:
            await self._engine.download(info.id)
            await exchange.reply(200, msgspec.json.encode(_done(info)))

    async def start(self, exchange: Exchange) -> None:
        """Start a download in the background."""
        request = self._request.decode(await exchange.json_body())
        status = await self._engine.start_download(request.model)
        await exchange.reply(200, msgspec.json.encode(_to_download(status)))

    async def list(self, exchange: Exchange) -> None:
        """List the running downloads and the most recent ones that ended."""
        downloads = Downloads(tuple(map(_to_download, self._engine.downloads())))
        await exchange.reply(200, msgspec.json.encode(downloads))

    async def cancel(self, exchange: Exchange) -> None:
        """Cancel a download."""
        request = self._cancel.decode(await exchange.json_body())
        await exchange.reply(200, msgspec.json.encode(Cancelled(self._engine.cancel_download(request.model))))

    async def _stream(self, exchange: Exchange, info: ModelInfo) -> None:
        latest = Latest[ProgressEvent]()
        failure: CupolaError | None = None
        await exchange.start_events(
            sse_event(msgspec.json.encode(self._current(info, ProgressEvent("download", 0, 0))))
        )
        async with anyio.create_task_group() as tasks:

            async def send_progress() -> None:
                while (progress := await latest.next()) is not None:
                    await exchange.send_events(sse_event(msgspec.json.encode(self._current(info, progress))))
                    await anyio.sleep(_INTERVAL_S)  # skip the events in between

            tasks.start_soon(send_progress)
            try:
                await self._engine.download(info.id, latest.put)
            except CupolaError as error:
                failure = error  # raised outside of the task group, which would wrap it
            tasks.cancel_scope.cancel()
        if failure:
            raise failure
        await exchange.end_events(sse_event(msgspec.json.encode(_done(info))))

    def _current(self, info: ModelInfo, progress: ProgressEvent) -> Download:
        status = next((status for status in self._engine.downloads() if status.info.id == info.id), None)
        if status and status.state == "running":
            return _to_download(status)
        return _to_download(DownloadStatus(info, "running", progress))


def _done(info: ModelInfo) -> Download:
    progress = ProgressEvent("download", info.size_bytes, info.size_bytes)
    return _to_download(DownloadStatus(info, "done", progress))


def _to_download(status: DownloadStatus) -> Download:
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

"""Files over HTTP, one after another: resumed, checked, and put in place only when whole."""

import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from anyio import CapacityLimiter, to_thread

from cupola.contracts import ModelInfo, Progress, ProgressEvent, RemoteFile
from cupola.contracts.catalog import Refresh
from cupola.downloads.partial import PartialFile, sha256_of
from cupola.downloads.targets import targets
from cupola.errors import CacheError, DigestMismatchError, DownloadError

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")
_CHUNK_BYTES = 1 << 20


class HttpDownloader:
    """The `Downloader` that catalog sources are handed.

    A file that has not arrived whole waits as `<name>.part`. The next try asks for the rest if it can be sure to get
    the same version of the file: it has a digest, or the server named the version (ETag, Last-Modified).
    """

    def __init__(self, *, connect_timeout_s: float = 15.0, read_timeout_s: float = 60.0) -> None:
        self._connect_timeout_s = connect_timeout_s
        self._read_timeout_s = read_timeout_s
        self._disk = CapacityLimiter(4)

    async def fetch(
        self,
        files: Sequence[RemoteFile],
        model: ModelInfo,
        folder: Path,
        progress: Progress,
        *,
        refresh: Refresh | None = None,  # noqa: ARG002 - comes with the next change
    ) -> None:
        """Bring every file into the folder, whole and checked; see `Downloader`. Cancellation keeps what arrived."""
        pairs = targets(files, model.id, folder)
        job = _Job(model.id, folder, sum(file.size_bytes for file in files), progress, self._disk)
        job.advance(0)
        async with self._client(model) as client:
            for file, target in pairs:
                await _bring_file(file, target, client, job)

    @asynccontextmanager
    async def _client(self, model: ModelInfo) -> "AsyncIterator[httpx.AsyncClient]":
        import httpx  # noqa: PLC0415 - a tenth of a second that only downloads should cost

        try:
            client = httpx.AsyncClient(
                timeout=httpx.Timeout(self._read_timeout_s, connect=self._connect_timeout_s),
                headers={"User-Agent": "cupola", "Accept-Encoding": "identity"},
                follow_redirects=True,
            )
        except (ImportError, OSError, ValueError, httpx.InvalidURL) as error:
            detail = f"the proxy or certificate settings of the environment do not work: {error}"
            raise DownloadError(model=model.id, detail=detail) from error
        async with client:
            yield client


@dataclass(slots=True)
class _Job:
    """All files of one model: what they share while they arrive."""

    model_id: str
    folder: Path
    total_bytes: int
    progress: Progress
    limiter: CapacityLimiter
    done_bytes: int = 0

    def advance(self, size_bytes: int) -> None:
        self.done_bytes += size_bytes
        self.progress(ProgressEvent("download", self.done_bytes, self.total_bytes))

    async def on_disk(self, call: Callable[[], T]) -> T:
        """Run what touches the disk in a thread, and explain its faults."""
        try:
            return await to_thread.run_sync(call, limiter=self.limiter)
        except OSError as error:
            needed_bytes = self.total_bytes - self.done_bytes
            raise CacheError.from_os(error, self.folder, needed_bytes=needed_bytes) from error

    def mismatch(self, file: RemoteFile, expected: str, actual: str) -> DigestMismatchError:
        detail = f"{_without_query(file.url)}: {file.path} is not what was announced"
        return DigestMismatchError(model=self.model_id, detail=detail, file=file.path, expected=expected, actual=actual)


async def _bring_file(file: RemoteFile, target: Path, client: "httpx.AsyncClient", job: _Job) -> None:
    """Bring one file to its place, using what earlier tries left."""
    if await job.on_disk(partial(_is_whole, target, file)):
        job.advance(file.size_bytes)
        return
    part = await job.on_disk(partial(PartialFile, target))
    try:
        if part.size_bytes > file.size_bytes or not (file.sha256 or part.validator):
            await job.on_disk(part.restart)
        job.advance(part.size_bytes)
        if part.size_bytes < file.size_bytes:
            await _receive(file, part, client, job)
        if file.sha256:
            actual = await job.on_disk(part.sha256)
            if actual != file.sha256.lower():
                raise job.mismatch(file, f"sha256 {file.sha256.lower()}", f"sha256 {actual}")
        await job.on_disk(part.finish)
    except DigestMismatchError:
        await job.on_disk(part.delete)
        raise
    finally:
        part.close()


async def _receive(file: RemoteFile, part: PartialFile, client: "httpx.AsyncClient", job: _Job) -> None:
    """Append what is missing, or everything if the server does not continue where the part ends."""
    import httpx  # noqa: PLC0415 - see HttpDownloader._client

    url = _without_query(file.url)
    try:
        async with client.stream("GET", file.url, headers=_range_headers(part)) as response:
            if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
                raise job.mismatch(file, _bytes(file.size_bytes), f"at most {_bytes(part.size_bytes)}")
            if response.status_code not in (httpx.codes.OK, httpx.codes.PARTIAL_CONTENT):
                reason = f"the server answered {response.status_code} {response.reason_phrase}"
                raise DownloadError(model=job.model_id, detail=f"{url}: {reason}")
            await _check_answer(response, file, part, job)
            async for chunk in response.aiter_bytes(_CHUNK_BYTES):
                if part.size_bytes + len(chunk) > file.size_bytes:
                    raise job.mismatch(file, _bytes(file.size_bytes), "more")
                await job.on_disk(partial(part.write, chunk))
                job.advance(len(chunk))
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        raise DownloadError(model=job.model_id, detail=f"{url}: {_cause(error)}") from error
    if part.size_bytes < file.size_bytes:
        detail = f"{url}: the answer ended after {part.size_bytes:,} of {_bytes(file.size_bytes)}"
        raise DownloadError(model=job.model_id, detail=detail)


async def _check_answer(response: "httpx.Response", file: RemoteFile, part: PartialFile, job: _Job) -> None:
    """Make sure that the answer's first byte is the next one of the part, and that it has the announced length."""
    match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
    if part.size_bytes and match and int(match[1]) == part.size_bytes and response.status_code == 206:
        announced = match[2]
    else:
        if response.status_code != 200:
            url = _without_query(file.url)
            raise DownloadError(model=job.model_id, detail=f"{url}: the server answered with another range")
        job.advance(-part.size_bytes)
        await job.on_disk(partial(part.restart, _validator(response)))
        announced = response.headers.get("Content-Length", "*") if "Content-Encoding" not in response.headers else "*"
    if announced.isdigit() and int(announced) != file.size_bytes:
        raise job.mismatch(file, _bytes(file.size_bytes), _bytes(int(announced)))


def _is_whole(target: Path, file: RemoteFile) -> bool:
    """Tell whether an earlier try left the file, whole; one that is not is removed."""
    if not target.exists():
        return False
    if target.stat().st_size == file.size_bytes and file.sha256.lower() in ("", sha256_of(target)):
        return True
    target.unlink()
    return False


def _range_headers(part: PartialFile) -> dict[str, str]:
    if not part.size_bytes:
        return {}
    asked = {"Range": f"bytes={part.size_bytes}-"}
    return asked | {"If-Range": part.validator} if part.validator else asked


def _validator(response: "httpx.Response") -> str:
    """Name the version of what the server sends; a weak ETag does not promise equal bytes (RFC 9110, 13.1.5)."""
    tag: str = response.headers.get("ETag", "")
    return tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified", "")


def _without_query(url: str) -> str:
    """Drop what may be secret: the query holds signatures, the user part passwords."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "an address that is none"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _cause(error: Exception) -> str:
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(error).__name__).lower()
    return f"{words}: {error}" if str(error) else words


def _bytes(count: int) -> str:
    return f"{count:,} bytes"

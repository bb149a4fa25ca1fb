"""Speed and memory of a download over loopback: Cupola's downloader with its digest check, against curl.

`python -m benchmarks.downloads [--megabytes N] [--rounds N] [--workers N] [--smoke]`. Each round downloads the same
file with curl and with Cupola, from a server process that sends with `sendfile`. Cupola's downloader runs in a process
of its own; its peak memory is that of the whole interpreter with all imports.
"""

import argparse
import hashlib
import json
import os
import re
import resource
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import anyio

from benchmarks.harness import build_parser, divide, finish, metered, run_interleaved
from cupola.catalog import RemoteFile
from cupola.downloads import HttpDownloader
from cupola.frontend import ModelInfo
from cupola.settings import DownloadSettings
from cupola_server.bench.statistics import Figure

_MEGABYTE = 1_000_000
_SEND_BYTES = 1 << 22


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns 1 if a goal was missed, except in smoke runs."""
    parser = build_parser(__doc__, rounds=5, model=False)
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=DownloadSettings().workers)
    parser.add_argument("--folder", type=Path, help="where to write; it needs space for three copies of the file")
    parser.add_argument("--fetch", nargs=4, metavar=("URL", "SIZE", "SHA256", "FOLDER"), help=argparse.SUPPRESS)
    parser.add_argument("--serve-file", metavar="FILE", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.serve_file:
        _serve_file(options.serve_file)
        return 0
    if options.fetch:
        _fetch(options.workers, *options.fetch)
        return 0
    if options.smoke:
        options.megabytes, options.rounds = 50, 1
    with metered() as meter:
        figures = _measure(options)
    checks = [
        ("at least 0.80 of curl", figures["ours / curl"].median >= 0.80),
        ("under 100 MB of memory", max(figures["ours, peak memory"].values) < 100),
    ]
    title = f"{options.megabytes} MB over loopback, {options.workers} workers"
    settings = {"megabytes": options.megabytes, "workers": options.workers}
    return finish("downloads", title, figures, checks, meter=meter, smoke=options.smoke, **settings)


def _measure(options: argparse.Namespace) -> dict[str, Figure]:
    memory_mb: list[float] = []
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        sha256 = _write(folder / "source", options.megabytes)
        size = options.megabytes * _MEGABYTE
        with _serving(folder / "source") as url:

            def ours() -> float:
                speed, peak_mb = _ours(url, size, sha256, folder / "ours", options.workers)
                memory_mb.append(peak_mb)
                return speed

            values = run_interleaved(
                options.rounds,
                {"curl": lambda: _curl(url, size, folder / "curl"), "ours": ours},
                pause_s=1.0,
                computes=False,
            )
    figures = {name: Figure("MB/s", tuple(found)) for name, found in values.items()}
    figures["ours / curl"] = divide(figures["ours"], figures["curl"])
    figures["ours, peak memory"] = Figure("MB", tuple(memory_mb))
    return figures


def _write(path: Path, megabytes: int) -> str:
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for _ in range(megabytes):
            block = os.urandom(_MEGABYTE)
            file.write(block)
            digest.update(block)
    return digest.hexdigest()


@contextmanager
def _serving(path: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "benchmarks.downloads", "--serve-file", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield f"http://127.0.0.1:{server.stdout.readline().strip()}/file"
        finally:
            server.kill()


def _curl(url: str, size: int, target: Path) -> float:
    started = time.perf_counter()
    subprocess.run(["curl", "--silent", "--fail", "--output", target, url], check=True)  # noqa: S607 - the user's own
    elapsed = time.perf_counter() - started
    assert target.stat().st_size == size
    target.unlink()
    return size / elapsed / _MEGABYTE


def _ours(url: str, size: int, sha256: str, folder: Path, workers: int) -> tuple[float, float]:
    command = [sys.executable, "-m", "benchmarks.downloads", "--workers", str(workers)]
    done = subprocess.run(
        [*command, "--fetch", url, str(size), sha256, str(folder)], check=True, stdout=subprocess.PIPE, text=True
    )
    elapsed, peak_mb = json.loads(done.stdout)
    return size / elapsed / _MEGABYTE, peak_mb


def _fetch(workers: int, url: str, size: str, sha256: str, folder: str) -> None:
    """Download in this process; print the seconds until the checked file is in place, and the peak memory in MB."""
    model = ModelInfo(id="benchmark:1", alias="benchmark", source="benchmark", publisher="benchmark")
    file = RemoteFile("file", int(size), url, sha256)

    async def fetch() -> None:
        await HttpDownloader(DownloadSettings(workers=workers)).fetch([file], model, Path(folder), lambda _: None)

    started = time.perf_counter()
    anyio.run(fetch)
    elapsed = time.perf_counter() - started
    (Path(folder) / "file").unlink()
    unit = 1 if sys.platform == "darwin" else 1024
    print(json.dumps([elapsed, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / _MEGABYTE]))


def _serve_file(path: str) -> None:
    """Serve a file over HTTP until killed; prints the port.

    It has a thread for each connection, honors ranges, keeps connections open, and lets the kernel send, so that it is
    never the bottleneck.
    """
    with Path(path).open("rb") as file, socket.create_server(("127.0.0.1", 0), backlog=64) as listening:
        size = os.fstat(file.fileno()).st_size
        print(listening.getsockname()[1], flush=True)
        while True:
            connection, _ = listening.accept()
            threading.Thread(target=_serve_connection, args=(connection, file.fileno(), size), daemon=True).start()


def _serve_connection(connection: socket.socket, descriptor: int, size: int) -> None:
    rest = b""
    with connection:
        try:
            while True:
                while b"\r\n\r\n" not in rest:
                    if not (data := connection.recv(65_536)):
                        return
                    rest += data
                head, _, rest = rest.partition(b"\r\n\r\n")
                _respond(connection, descriptor, size, head)
        except OSError:
            return  # the client closed the connection


def _respond(connection: socket.socket, descriptor: int, size: int, head: bytes) -> None:
    wanted = re.search(rb"range: bytes=(\d+)-(\d*)", head.lower())
    start, end = (int(wanted[1]), int(wanted[2] or size - 1) + 1) if wanted else (0, size)
    status = "206 Partial Content" if wanted else "200 OK"
    content_range = f"Content-Range: bytes {start}-{end - 1}/{size}\r\n" if wanted else ""
    connection.sendall(f"HTTP/1.1 {status}\r\n{content_range}Content-Length: {end - start}\r\n\r\n".encode())
    while start < end:
        start += os.sendfile(connection.fileno(), descriptor, start, min(_SEND_BYTES, end - start))


if __name__ == "__main__":
    sys.exit(main())

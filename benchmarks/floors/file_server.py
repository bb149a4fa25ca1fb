"""A file behind HTTP, sent by the kernel: `python -m benchmarks.floors.file_server FILE`. Prints its port.

A thread per connection, ranges honoured, connections kept: a server that is never the bottleneck.
"""

import os
import re
import socket
import sys
import threading
from pathlib import Path

_SEND_BYTES = 1 << 22


def main(path: str) -> None:
    """Serve until killed."""
    with Path(path).open("rb") as file, socket.create_server(("127.0.0.1", 0), backlog=64) as listening:
        size = os.fstat(file.fileno()).st_size
        print(listening.getsockname()[1], flush=True)
        while True:
            connection, _ = listening.accept()
            threading.Thread(target=_serve, args=(connection, file.fileno(), size), daemon=True).start()


def _serve(connection: socket.socket, descriptor: int, size: int) -> None:
    rest = b""
    with connection:
        try:
            while True:
                while b"\r\n\r\n" not in rest:
                    if not (data := connection.recv(65_536)):
                        return
                    rest += data
                head, _, rest = rest.partition(b"\r\n\r\n")
                _answer(connection, descriptor, size, head)
        except OSError:
            return  # the client left


def _answer(connection: socket.socket, descriptor: int, size: int, head: bytes) -> None:
    asked = re.search(rb"range: bytes=(\d+)-(\d*)", head.lower())
    start, end = (int(asked[1]), int(asked[2] or size - 1) + 1) if asked else (0, size)
    status = "206 Partial Content" if asked else "200 OK"
    ranged = f"Content-Range: bytes {start}-{end - 1}/{size}\r\n" if asked else ""
    connection.sendall(f"HTTP/1.1 {status}\r\n{ranged}Content-Length: {end - start}\r\n\r\n".encode())
    while start < end:
        start += os.sendfile(connection.fileno(), descriptor, start, min(_SEND_BYTES, end - start))


if __name__ == "__main__":
    main(sys.argv[1])

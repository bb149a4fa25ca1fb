"""A loopback HTTP server for files, with ranges, and with the faults of real ones."""

import re
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FileServer:
    """Serves `files`, by path. Faults are set by path and work once, unless said otherwise.

    Attributes:
        requests: (path, Range header or "") of every request, in order.
        drop_after: Close the connection after this byte of the file, by whichever request it is reached.
        hold_after: Stop there until `go_on` is set; `holding` tells that it happened.
        status: Answer with this status, always.
        faults: Answer the next requests with these (status, headers), one each.
        refuse: Query of addresses that are refused with 403.
        drops_every: Close every connection after so many bytes of a body.
        trickle_s: Send a byte at a time with pauses as long as this.
        etag: Version to announce and to honour in If-Range; "" announces none.
        ranges: Whether ranges are honoured.
        announce_length: Whether there is a Content-Length.
        headers: More headers for every file.
    """

    def __init__(self, files, *, tls=None):
        self.files, self._tls = dict(files), tls
        self.requests = []
        self.drop_after, self.hold_after, self.status, self.redirects = {}, {}, {}, {}
        self.faults, self.refuse, self.lock = {}, set(), threading.Lock()
        self.drops_every, self.trickle_s = None, 0.0
        self.go_on, self.holding = threading.Event(), threading.Event()
        self.headers = {}
        self.etag, self.ranges, self.announce_length = '"1"', True, True

    def __enter__(self):
        handler = type("Handler", (_Handler,), {"site": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        if self._tls is not None:
            self._server.socket = self._tls.wrap_socket(self._server.socket, server_side=True)
        self.url = f"http{'s' if self._tls else ''}://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        return self

    def __exit__(self, *_):
        self.go_on.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def requests_for(self, path):
        return [asked for requested, asked in self.requests if requested == path]


class _Handler(BaseHTTPRequestHandler):
    site: FileServer
    timeout = 10

    def do_GET(self):
        path = self.path.partition("?")[0].lstrip("/")
        self.site.requests.append((path, self.headers.get("Range", "")))
        with self.site.lock:
            fault = self.site.faults[path].pop(0) if self.site.faults.get(path) else None
        if fault or self.path.partition("?")[2] in self.site.refuse:
            status, headers = fault or (403, {})
            self.send_response(status)
            for name, value in {"Content-Length": "0", **headers}.items():
                self.send_header(name, value)
            self.end_headers()
        elif path in self.site.redirects:
            self.send_response(302)
            self.send_header("Location", self.site.redirects[path])
            self.end_headers()
        elif path in self.site.status or path not in self.site.files:
            self.send_error(self.site.status.get(path, 404))
        else:
            self._send_file(path, self.site.files[path])

    def _send_file(self, path, content):
        asked = self._asked()
        start, end = asked or (0, len(content))
        end = min(end, len(content))
        if start >= len(content) > 0:
            self.send_error(416)
            return
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(content)}")
        if self.site.etag:
            self.send_header("ETag", self.site.etag)
        if self.site.announce_length:
            self.send_header("Content-Length", str(end - start))
        for name, value in self.site.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "text/html" if path.endswith("/") else "application/octet-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        self._send_body(path, content[start:end], start)

    def _asked(self):
        """Return where the range begins and ends, or None if everything is to be sent."""
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not asked or not self.site.ranges or self.headers.get("If-Range", self.site.etag) != self.site.etag:
            return None
        return int(asked[1]), int(asked[2]) + 1 if asked[2] else sys.maxsize

    def _send_body(self, path, body, start):
        try:
            first = self._due(self.site.hold_after, path, start, len(body))
            if first is not None:
                self.wfile.write(body[:first])
                self.site.holding.set()
                self.site.go_on.wait()
                body, start = body[first:], start + first
            drop = self._due(self.site.drop_after, path, start, len(body))
            for index in range(len(body) if self.site.trickle_s else 0):
                self.wfile.write(body[index : index + 1])
                self.site.go_on.wait(self.site.trickle_s)
            self.wfile.write(body[: self.site.drops_every if drop is None else drop])
        except OSError:
            pass  # the client left

    def _due(self, faults, path, start, size):
        """Say how much is to be sent before a fault, None if it is not for this request."""
        with self.site.lock:
            if start <= faults.get(path, -1) < start + size:
                return faults.pop(path) - start
        return None

    def log_message(self, *_):
        pass

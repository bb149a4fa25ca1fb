"""A loopback HTTP server for files, with ranges, and with the faults of real ones."""

import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FileServer:
    """Serves `files`, by path. Faults are set by path and work once, unless said otherwise.

    Attributes:
        requests: (path, Range header or "") of every request, in order.
        drop_after: Close the connection after so many bytes of the body.
        hold_after: Stop after so many bytes of the body until `go_on` is set; `holding` tells that it happened.
        status: Answer with this status, always.
        etag: Version to announce and to honour in If-Range; "" announces none.
        ranges: Whether ranges are honoured.
        announce_length: Whether there is a Content-Length.
        headers: More headers for every file.
    """

    def __init__(self, files):
        self.files = dict(files)
        self.requests = []
        self.drop_after, self.hold_after, self.status, self.redirects = {}, {}, {}, {}
        self.go_on, self.holding = threading.Event(), threading.Event()
        self.headers = {}
        self.etag, self.ranges, self.announce_length = '"1"', True, True

    def __enter__(self):
        handler = type("Handler", (_Handler,), {"site": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
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
        if path in self.site.redirects:
            self.send_response(302)
            self.send_header("Location", self.site.redirects[path])
            self.end_headers()
        elif path in self.site.status or path not in self.site.files:
            self.send_error(self.site.status.get(path, 404))
        else:
            self._send_file(path, self.site.files[path])

    def _send_file(self, path, content):
        start = self._start(len(content))
        if start >= len(content) > 0:
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if self.site.etag:
            self.send_header("ETag", self.site.etag)
        if self.site.announce_length:
            self.send_header("Content-Length", str(len(content) - start))
        for name, value in self.site.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "text/html" if path.endswith("/") else "application/octet-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        self._send_body(path, content[start:])

    def _start(self, size):
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if not asked or not self.site.ranges or self.headers.get("If-Range", self.site.etag) != self.site.etag:
            return 0
        return int(asked[1])

    def _send_body(self, path, body):
        try:
            if path in self.site.hold_after:
                first = self.site.hold_after.pop(path)
                self.wfile.write(body[:first])
                self.site.holding.set()
                self.site.go_on.wait()
                body = body[first:]
            self.wfile.write(body[: self.site.drop_after.pop(path, len(body))])
        except OSError:
            pass  # the client left

    def log_message(self, *_):
        pass

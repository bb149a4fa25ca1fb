"""A service elsewhere that speaks OpenAI's API, on loopback, which does whatever a test tells it to."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEY = "sk-very-secret-0123456789"


def chunk(delta=None, *, finish=None, usage=None, **more):
    """Return one chunk of a streamed chat."""
    choices = [] if usage else [{"index": 0, "delta": delta or {}, "finish_reason": finish, **more}]
    return {"id": "c", "object": "chat.completion.chunk", "choices": choices, "usage": usage}


def text(*pieces, finish="stop"):
    """Return the chunks of a plain answer."""
    counts = {"prompt_tokens": 7, "completion_tokens": len(pieces), "prompt_tokens_details": {"cached_tokens": 2}}
    opening = chunk({"role": "assistant", "content": ""})
    return [opening, *(chunk({"content": piece}) for piece in pieces), chunk(finish=finish), chunk(usage=counts)]


class StandIn:
    """The service. Use as a context.

    Attributes:
        script: What is streamed: a chunk, raw bytes, an event to wait for; "die" cuts the connection.
        status, reply, headers: Sent instead of a stream if status is not 200, or reply is set.
        asked: The (path, headers, body) of every request.
        left: Set when a client went away before the end.
    """

    def __init__(self):
        self.script = [*text("Hello", " from", " elsewhere"), "done"]
        self.status, self.reply, self.headers = 200, None, {}
        self.asked = []
        self.left = threading.Event()
        self.released = threading.Event()

    def __enter__(self):
        handler = type("Handler", (_Handler,), {"stand_in": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        return self

    def __exit__(self, *error):
        self.released.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def refuse(self, status, message="no", param=None, **headers):
        """Answer with an error from now on."""
        self.status = status
        self.reply = {"error": {"message": message, "type": "x", "param": param, "code": None}}
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    stand_in: StandIn

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.stand_in.asked.append((self.path, dict(self.headers), body))
        if self.stand_in.status != 200 or self.stand_in.reply is not None:
            self._whole()
        else:
            self._stream()

    def _whole(self):
        reply = (
            self.stand_in.reply if isinstance(self.stand_in.reply, bytes) else json.dumps(self.stand_in.reply).encode()
        )
        self.send_response(self.stand_in.status)
        for name, value in {"content-type": "application/json", **self.stand_in.headers}.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    def _stream(self):
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        try:
            for line in self.stand_in.script:
                if not self._play(line):
                    return
            self.wfile.write(b"0\r\n\r\n")
        except OSError:
            self.stand_in.left.set()

    def _play(self, line):
        if isinstance(line, threading.Event):
            line.wait(20)
            return True
        if line == "die":
            self.close_connection = True
            self.connection.shutdown(2)
            return False
        data = line if isinstance(line, bytes) else b"data: [DONE]\n\n"
        if isinstance(line, dict):
            data = b"data: " + json.dumps(line).encode() + b"\n\n"
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()
        return True

    def log_message(self, *arguments):
        pass

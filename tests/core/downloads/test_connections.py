"""Downloads through real proxies, and over TLS with a private certificate authority, configured by the environment."""

import base64
import contextlib
import select
import socket
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.request import ProxyHandler, build_opener

import pytest

from cupola.catalog import RemoteFile
from cupola.downloads import HttpDownloader
from cupola.errors import DownloadError
from cupola.frontend import ModelInfo
from cupola.settings import DownloadSettings
from file_server import FileServer

pytestmark = pytest.mark.anyio

CERTIFICATE = Path(__file__).with_name("loopback_test_certificate.pem")
CONTENT = bytes(range(256)) * 8_000
MODEL = ModelInfo(id="tiny-generic-cpu:1", alias="tiny", source="served", publisher="Publisher")


class Proxy:
    """A proxy on loopback: forwards plain requests, opens tunnels.

    Attributes:
        asked: (method, target) of every request.
        authorizations: What came as Proxy-Authorization.
        allow: The required credentials; "" for none.
    """

    def __init__(self):
        self.asked, self.authorizations, self.allow = [], [], ""

    def __enter__(self):
        handler = type("Handler", (_ProxyHandler,), {"proxy": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.address = f"127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()


class _ProxyHandler(BaseHTTPRequestHandler):
    proxy: Proxy
    protocol_version = "HTTP/1.1"
    timeout = 10

    def _admits(self):
        self.proxy.asked.append((self.command, self.path))
        given = self.headers.get("Proxy-Authorization", "")
        self.proxy.authorizations.append(given)
        wanted = self.proxy.allow and "Basic " + base64.b64encode(self.proxy.allow.encode()).decode()
        if given == wanted:
            return True
        self.send_response(407)
        self.send_header("Content-Length", "0")
        self.end_headers()
        return False

    def do_GET(self):
        if not self._admits():
            return
        headers = {name: self.headers[name] for name in ("Range",) if name in self.headers}
        opener = build_opener(ProxyHandler({}))
        opener.addheaders = [*headers.items()]
        with opener.open(self.path, timeout=10) as reply:
            body = reply.read()
            self.send_response(reply.status)
            for name in ("Content-Range", "ETag"):
                if name in reply.headers:
                    self.send_header(name, reply.headers[name])
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_CONNECT(self):
        if not self._admits():
            return
        host, _, port = self.path.partition(":")
        with socket.create_connection((host, int(port)), timeout=10) as there:
            self.send_response(200)
            self.end_headers()
            self._pump(self.connection, there)
        self.close_connection = True

    def _pump(self, here, there):
        with contextlib.suppress(OSError):
            while True:
                ready, _, _ = select.select([here, there], [], [], 10)
                for side in ready:
                    data = side.recv(65_536)
                    if not data:
                        return
                    (there if side is here else here).sendall(data)

    def log_message(self, *_):
        """Log nothing."""


@pytest.fixture
def proxy():
    with Proxy() as proxy:
        yield proxy


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    from cupola.downloads import connections  # noqa: PLC0415

    connections._ssl_context.cache_clear()  # the variables are read once in a process
    yield
    connections._ssl_context.cache_clear()


@pytest.fixture
def server():
    with FileServer({"model.onnx": CONTENT}) as server:
        yield server


@pytest.fixture
def secure_server():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    with FileServer({"model.onnx": CONTENT}, tls=context) as server:
        yield server


async def downloaded(url, folder):
    settings = DownloadSettings(workers=3, chunk_mb=0.5, retries=0)
    file = RemoteFile("model.onnx", len(CONTENT), f"{url}/model.onnx")
    await HttpDownloader(settings).fetch([file], MODEL, folder, lambda event: None)
    assert (folder / "model.onnx").read_bytes() == CONTENT


@pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY", "all_proxy"])
async def test_the_proxy_of_the_environment_is_used(server, proxy, tmp_path, monkeypatch, variable):
    monkeypatch.setenv(variable, f"http://{proxy.address}")
    await downloaded(server.url, tmp_path)
    assert {target for _, target in proxy.asked} == {f"{server.url}/model.onnx"}
    assert len(proxy.asked) == len(server.requests) == 5


async def test_hosts_in_no_proxy_are_connected_to_directly(server, proxy, tmp_path, monkeypatch):
    monkeypatch.setenv("http_proxy", f"http://{proxy.address}")
    monkeypatch.setenv("no_proxy", "example.org,127.0.0.1")
    await downloaded(server.url, tmp_path)
    assert proxy.asked == []


async def test_the_credentials_in_a_proxy_url_reach_the_proxy_but_no_error_message(
    server, proxy, tmp_path, monkeypatch
):
    proxy.allow = "me:p@ss"
    monkeypatch.setenv("http_proxy", f"http://me:p%40ss@{proxy.address}")
    await downloaded(server.url, tmp_path / "allowed")
    proxy.allow = "somebody:else"
    with pytest.raises(DownloadError, match="407") as caught:
        await downloaded(server.url, tmp_path / "refused")
    assert "p@ss" not in str(caught.value)
    assert "p%40ss" not in str(caught.value)


async def test_tls_uses_a_tunnel_and_the_certificates_of_the_environment(secure_server, proxy, tmp_path, monkeypatch):
    proxy.allow = "me:secret"
    monkeypatch.setenv("https_proxy", f"http://me:secret@{proxy.address}")
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    await downloaded(secure_server.url, tmp_path)
    assert {method for method, _ in proxy.asked} == {"CONNECT"}


async def test_an_untrusted_certificate_is_an_error_without_retries(secure_server, tmp_path):
    with pytest.raises(DownloadError, match=r"(?i)certificate"):
        await downloaded(secure_server.url, tmp_path)
    assert secure_server.requests == []


async def test_a_certificate_authority_of_the_environment_is_trusted(secure_server, tmp_path, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    await downloaded(secure_server.url, tmp_path)


async def test_a_proxy_that_is_down_is_a_download_error(server, tmp_path, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as free:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free.getsockname()[1]}")
    with pytest.raises(DownloadError, match="refused"):
        await downloaded(server.url, tmp_path)

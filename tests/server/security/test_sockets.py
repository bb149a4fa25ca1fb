"""Unix domain sockets, and sockets that systemd hands over."""

import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import anyio
import httpx
import pytest

from cupola.errors import SettingsError
from cupola.settings import ServerSettings
from cupola_server.listeners import activated_sockets, open_listeners
from cupola_server.server import serve
from cupola_server.unix_socket import SocketFileError
from server.fake_engine import running
from server.security.test_hosts import app

pytestmark = [pytest.mark.anyio, pytest.mark.skipif(sys.platform == "win32", reason="no such sockets there")]

VICTIM = Path(__file__).with_name("victim.py")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "cupola.sock"


def client(path):
    return httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=str(path)), base_url="http://any.name")


async def refusal(**settings):
    with pytest.raises((SettingsError, SocketFileError)) as caught:
        await serve(app, ServerSettings(**settings), ready=pytest.fail, stop=anyio.Event())
    return caught.value


async def test_a_unix_socket_serves_this_user_alone_by_any_name_and_leaves_no_file(path):
    async with running(app, uds=str(path)) as url:
        assert url == f"unix:{path}"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        async with client(path) as http:
            assert (await http.get("/")).text == "in"
            assert (await http.get("/", headers={"origin": "https://evil.example"})).status_code == 403
    assert not path.exists()


async def test_the_socket_of_a_service_that_was_killed_is_replaced(path):
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(path))
    dead.close()
    async with running(app, uds=str(path)), client(path) as http:
        assert (await http.get("/")).text == "in"


async def test_the_socket_of_a_living_service_stays(path):
    async with running(app, uds=str(path)), client(path) as http:
        error = await refusal(uds=str(path))
        assert "another program listens on it" in str(error)
        assert (await http.get("/")).text == "in"


async def test_a_file_of_another_kind_stays(path):
    path.write_text("precious")
    assert "is not a socket" in str(await refusal(uds=str(path)))
    assert path.read_text() == "precious"


@pytest.mark.parametrize("name", ["missing/folder.sock", "x" * 200])
async def test_a_path_that_cannot_be_used_is_one_clear_error(tmp_path, name):
    error = await refusal(uds=str(tmp_path / name))
    assert isinstance(error, SocketFileError)
    assert str(tmp_path) in str(error)


async def test_a_socket_that_another_service_put_there_meanwhile_stays(path):
    async with running(app, uds=str(path)):
        path.unlink()
        other = socket.socket(socket.AF_UNIX)
        other.bind(str(path))
    assert path.exists()
    other.close()


async def test_where_there_are_no_such_sockets_that_is_said(path, monkeypatch):
    monkeypatch.delattr(socket, "AF_UNIX")
    error = await refusal(uds=str(path))
    assert error.key == "server.uds"
    assert "named pipe" in str(error)


AS_SYSTEMD = """
import os, sys
script, *numbers = sys.argv[1:]
copies = [os.dup2(int(number), 50 + at) for at, number in enumerate(numbers)]
for at, copy in enumerate(copies):
    os.dup2(copy, 3 + at)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(numbers)))
os.execv(sys.executable, [sys.executable, script])
"""


def activated(listeners):
    """Start the real server as systemd does: the sockets as descriptors from 3 on, LISTEN_PID its own id."""
    numbers = [listener.fileno() for listener in listeners]
    tests = str(Path(__file__).parents[2])
    paths = os.pathsep.join([tests, *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.Popen(
        [sys.executable, "-c", AS_SYSTEMD, str(VICTIM), *map(str, numbers)],
        env={**os.environ, "PYTHONPATH": paths},
        pass_fds=numbers,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


async def test_sockets_that_systemd_hands_over_are_served_and_stay(path):
    tcp, unix = socket.create_server(("127.0.0.1", 0)), socket.socket(socket.AF_UNIX)
    unix.bind(str(path))
    unix.listen()
    with tcp, unix:
        process = activated([tcp, unix])
        port = tcp.getsockname()[1]
        assert process.stdout.readline().strip() == f"http://127.0.0.1:{port}"
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=20) as http:
            assert (await http.get("/v1/models")).status_code == 200
            assert (await http.get("/v1/models", headers={"host": "evil.example"})).status_code == 421
        transport = httpx.AsyncHTTPTransport(uds=str(path))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
            assert (await http.get("/v1/models")).status_code == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0, process.stderr.read()
        process.stdout.close()
        process.stderr.close()
    assert path.exists()


async def test_a_socket_open_to_others_is_not_served_without_a_key_whoever_opened_it():
    with socket.create_server(("0.0.0.0", 0)) as public:
        process = activated([public])
        _, error = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "requires API keys" in error


def test_without_the_variables_or_for_another_process_nothing_is_taken():
    assert activated_sockets({}) == []
    assert activated_sockets({"LISTEN_FDS": "1"}) == []
    assert activated_sockets({"LISTEN_FDS": "1", "LISTEN_PID": "1"}) == []


@pytest.mark.parametrize("count", ["many", "-1", "1000", "60"])
def test_what_is_no_listening_socket_is_an_error(count):
    with pytest.raises(SettingsError) as caught:
        activated_sockets({"LISTEN_FDS": count, "LISTEN_PID": str(os.getpid())})
    assert caught.value.key == "LISTEN_FDS"


async def test_an_address_is_used_when_nothing_else_is_set():
    [listener] = await open_listeners(ServerSettings(port=0), keyed=False, environ={})
    with listener:
        assert listener.getsockname()[0] == "127.0.0.1"

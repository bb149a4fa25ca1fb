"""Nothing leaves this machine while models are loaded and asked: the kernel is asked, and the processes are watched."""

import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import psutil
import pytest

CHAT = {"model": "smollm2-135m", "messages": [{"role": "user", "content": "What is 2+2?"}], "max_tokens": 20}
LOOPBACK = ("127.0.0.1", "::1")

# A network of its own, with a way out that leads nowhere: what is sent there is counted, as on a real machine.
NETWORK = 'ip link set lo up && ip route add default dev lo && exec "$@"'
UNSHARED = ["unshare", "--map-root-user", "--net", "sh", "-c", NETWORK, "sh"]
STRAY = """
import socket
one = socket.socket()
one.settimeout(0.1)
try:
    one.connect(("203.0.113.1", 443))
except TimeoutError:
    pass
socket.socket(type=socket.SOCK_DGRAM).sendto(b"x", ("203.0.113.1", 53))
print(open("/proc/self/net/snmp").read())
"""


def sent(snmp):
    """Return how many connections were begun and datagrams sent in a network, ever; of loopback as well."""
    counts = {}
    for names, values in re.findall(r"^(\w+: [A-Z].*)\n(\w+: .*)$", snmp, re.MULTILINE):
        counts[names.partition(":")[0]] = dict(zip(names.split(), values.split(), strict=True))
    return int(counts["Tcp"]["ActiveOpens"]), int(counts["Udp"]["OutDatagrams"])


def ask_everything(client, embedder):
    """Load both kinds of models, and ask them in every way."""
    for stream in (False, True):
        assert client.post("/v1/chat/completions", json={**CHAT, "stream": stream}).status_code == 200
    guided = {**CHAT, "response_format": {"type": "json_object"}}
    assert client.post("/v1/chat/completions", json=guided).status_code == 200
    response = {"model": CHAT["model"], "input": "Hello", "max_output_tokens": 5, "store": False}
    assert client.post("/v1/responses", json=response).status_code == 200
    assert client.post("/v1/embeddings", json={"model": embedder, "input": "Hello"}).status_code == 200
    assert client.get("/v1/models").status_code == 200
    assert client.get("/metrics").status_code == 200


@pytest.fixture
def unshared():
    """How to run a command in a network of its own, where the system lets us."""
    if not all(map(shutil.which, ("unshare", "ip"))):
        pytest.skip("the kernel's counters are not asked: there is no `unshare` or no `ip` on this machine")
    tried = subprocess.run([*UNSHARED, "true"], check=False, capture_output=True, text=True, timeout=30)
    if tried.returncode:
        pytest.skip(f"the kernel's counters are not asked: no network of one's own here: {tried.stderr.strip()}")
    return UNSHARED


def test_the_kernel_would_have_counted_what_is_sent(unshared):
    command = [*unshared, sys.executable, "-c", STRAY]
    run = subprocess.run(command, check=True, capture_output=True, text=True, timeout=30)
    assert sent(run.stdout) == (1, 1)


def test_the_kernel_saw_no_connection_and_no_datagram_from_loading_to_the_last_answer(
    unshared, starter_settings, starter_embedder, tmp_path
):
    socket = tmp_path / "cupola.sock"
    settings = {"CUPOLA_CACHE_DIR": str(starter_settings.cache_dir), "CUPOLA_SERVER_UDS": str(socket)}
    process = subprocess.Popen(
        [*unshared, sys.executable, "-m", "cupola_server.cli", "serve"],
        env={**os.environ, **settings},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert str(socket) in process.stdout.readline()
        transport = httpx.HTTPTransport(uds=str(socket))
        with httpx.Client(transport=transport, base_url="http://localhost", timeout=60) as client:
            ask_everything(client, starter_embedder)
        workers = psutil.Process(process.pid).children(recursive=True)
        assert len(workers) >= 2
        for pid in (process.pid, *(worker.pid for worker in workers)):
            assert sent(Path(f"/proc/{pid}/net/snmp").read_text()) == (0, 0)
    finally:
        process.terminate()
        process.communicate(timeout=30)
    assert process.returncode == 0


def test_no_process_of_the_service_ever_holds_a_connection_to_elsewhere(start_service, starter_embedder):
    service = start_service()
    whole, over, seen = psutil.Process(service.process.pid), threading.Event(), set()

    def watch():
        while not over.is_set():
            for process in (whole, *whole.children(recursive=True)):
                try:
                    seen.update((c.raddr.ip, c.type) for c in process.net_connections("inet") if c.raddr)
                except psutil.Error:  # it ended meanwhile
                    continue

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        with httpx.Client(base_url=service.url, timeout=60) as client:
            ask_everything(client, starter_embedder)
    finally:
        over.set()
        watcher.join()
    assert seen
    assert {address for address, _ in seen} <= set(LOOPBACK)

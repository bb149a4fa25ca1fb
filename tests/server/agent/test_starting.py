"""Starting and ending the agent, with nothing but real processes."""

import os
import signal
import socket
import stat
import time
from pathlib import Path

import httpx
import pytest

from cupola.discovery import ensure_service, start_service, stop_service
from cupola.errors import ServiceStartError


@pytest.fixture
def start(machine, monkeypatch):
    """Find or start the agent from this process."""

    def start(*overrides, **environment):
        machine.extra = environment
        for name, value in machine.environment.items():
            monkeypatch.setenv(name, value)
        return ensure_service(machine.settings(), overrides=overrides)

    return start


def cached(url, uds=None):
    with httpx.Client(base_url=url, transport=httpx.HTTPTransport(uds=uds)) as client:
        return client.get("/v1/models").raise_for_status().json()["data"]


def test_it_answers_on_its_port_and_on_its_socket_which_is_this_users(start, machine):
    info = start()
    assert cached(info.url) == cached("http://localhost", info.socket) == []
    assert stat.S_IMODE(Path(info.socket).stat().st_mode) == 0o600
    assert machine.agent() == start() == info


def test_ten_programs_that_need_it_at_the_same_moment_get_the_same_one(machine):
    programs = [machine.ensure() for _ in range(10)]
    ends = [program.communicate(timeout=60) for program in programs]
    assert {out for out, _ in ends} == {f"{machine.agent().pid}\n"}, ends


def test_one_that_was_killed_is_replaced(start, machine):
    first = start()
    os.kill(first.pid, signal.SIGKILL)
    machine.wait_for_end()
    second = start()
    assert second.pid != first.pid
    assert cached(second.url) == cached("http://localhost", second.socket) == []


def test_it_is_stopped_once_and_leaves_neither_socket_nor_file(start, machine):
    info = start()
    assert stop_service(machine.settings())
    assert not stop_service(machine.settings())
    assert not Path(info.socket).exists()
    assert not machine.files.info.exists()


def test_one_that_does_not_end_when_it_is_told_to_is_killed(start, machine, monkeypatch):
    monkeypatch.setattr("cupola.discovery.lifecycle._STOP_MARGIN_S", 0.2)
    os.kill(start(CUPOLA_SERVER_DRAIN_TIMEOUT_S="0.1").pid, signal.SIGSTOP)
    assert stop_service(machine.settings())
    assert machine.agent() is None


def test_a_port_in_use_is_one_sentence_that_names_the_setting(start):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ServiceStartError, match=rf"^The service did not start\. Port {port} .*service\.port"):
            start(f"service.port={port}")


def test_a_setting_that_is_wrong_is_one_sentence(machine, tmp_path):
    config = tmp_path / "wrong.toml"
    config.write_text("[models]\nttl_s = -1\n")
    with pytest.raises(ServiceStartError, match=r"'models\.ttl_s' in .*wrong\.toml"):
        start_service(machine.settings(), config=config)


def test_one_that_cannot_even_begin_leaves_its_last_words(start, machine):
    (machine.site / "cupola_server").mkdir()
    (machine.site / "cupola_server" / "__init__.py").touch()
    with pytest.raises(ServiceStartError, match=r"It ended during startup: .*No module named cupola_server\.agent"):
        start(PYTHONPATH=str(machine.site))


def test_one_that_is_not_ready_in_time_is_given_up_and_ended(start, machine):
    began = time.monotonic()
    with pytest.raises(ServiceStartError, match=r"not ready within 0\.05 s\. Raise service\.start_timeout_s"):
        start(CUPOLA_SERVICE_START_TIMEOUT_S="0.05")
    machine.wait_for_end()
    assert time.monotonic() - began < 10
    assert machine.agent() is None


def test_one_that_stops_lets_running_answers_end_and_the_next_one_waits_for_it(start, machine):
    machine.run("model", "download", "echo")
    first = start()
    body = {"model": "echo", "messages": [{"role": "user", "content": "a slow"}], "stream": True}
    with httpx.stream("POST", f"{first.url}/v1/chat/completions", json=body, timeout=30) as response:
        lines = response.iter_lines()
        assert next(lines).startswith("data: {")
        os.kill(first.pid, signal.SIGTERM)
        second = machine.ensure()
        assert list(lines)[-2:] == ["data: [DONE]", ""]
    assert second.communicate(timeout=30)[0] == f"{machine.agent().pid}\n"
    assert machine.agent().pid != first.pid


def test_a_port_that_is_set_is_taken(start):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert start(CUPOLA_SERVICE_PORT=str(port)).url == f"http://127.0.0.1:{port}"


def test_a_folder_too_deep_for_sockets_has_its_socket_elsewhere_for_this_user_alone(start, tmp_path):
    info = start(CUPOLA_SERVICE_DIR=str(tmp_path / ("deep" * 30)), TMPDIR=str(tmp_path))
    folder = Path(info.socket).parent
    assert folder.parent == tmp_path
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert cached("http://localhost", info.socket) == []


def test_a_socket_folder_that_somebody_else_prepared_is_refused(start, machine, tmp_path, monkeypatch):
    (tmp_path / "theirs").mkdir()
    deep = str(tmp_path / ("deep" * 30))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    machine.extra = {"CUPOLA_SERVICE_DIR": deep}
    machine.files.socket.parent.symlink_to(tmp_path / "theirs")
    with pytest.raises(ServiceStartError, match="does not belong to this user"):
        start(CUPOLA_SERVICE_DIR=deep, TMPDIR=str(tmp_path))
    assert list((tmp_path / "theirs").iterdir()) == []

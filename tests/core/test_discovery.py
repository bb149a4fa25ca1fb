"""How the background service is found, with other real processes in its place."""

import os
import socket
import stat
import subprocess
import sys

import msgspec
import pytest

from cupola import Settings
from cupola.discovery import ServiceFiles, ServiceInfo, find_service, is_alive, process_start, start_service
from cupola.errors import ServiceStartError
from cupola.files import hold_lock
from cupola.settings import CacheSettings, ServiceSettings


@pytest.fixture
def settings(tmp_path):
    service = ServiceSettings(dir=str(tmp_path / "service"), log_dir=str(tmp_path / "logs"), start_timeout_s=0.2)
    return Settings(cache=CacheSettings(dir=str(tmp_path / "cache")), service=service)


@pytest.fixture
def files(settings):
    files = ServiceFiles.of(settings)
    files.make_folder()
    return files


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


@pytest.fixture
def info(listener):
    """The info of a service that is this process and listens at `listener`."""
    return ServiceInfo(
        url=f"http://127.0.0.1:{listener.getsockname()[1]}",
        socket="",
        pid=os.getpid(),
        born=process_start(os.getpid()),
        started_unix=1.7e9,
        cache_dir="/models",
        log="/log",
        version="0.1.0",
    )


def test_a_written_info_is_found_and_only_its_user_can_read_it(settings, files, info):
    files.write(info)
    assert find_service(settings) == info
    assert stat.S_IMODE(files.info.stat().st_mode) == 0o600
    assert stat.S_IMODE(files.folder.stat().st_mode) == 0o700
    assert [path.name for path in files.folder.iterdir()] == ["agent.json"]


def test_a_service_that_was_killed_is_not_found(settings, files, info):
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        files.write(msgspec.structs.replace(info, pid=process.pid, born=process_start(process.pid)))
        assert find_service(settings)
        process.kill()
        process.wait()
        assert find_service(settings) is None


def test_a_zombie_process_is_not_alive():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        born = process_start(process.pid)
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert not is_alive(process.pid, born)


def test_a_later_process_with_the_same_id_is_not_the_service(settings, files, info):
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        files.write(msgspec.structs.replace(info, born=process_start(other.pid)))
        assert find_service(settings) is None


def test_a_service_that_accepts_no_connections_is_not_found(settings, files, info, listener):
    files.write(info)
    listener.close()
    assert find_service(settings) is None


def test_a_service_that_is_stopping_is_not_found(settings, files, info):
    files.write(msgspec.structs.replace(info, stopping=True))
    assert find_service(settings) is None


@pytest.mark.parametrize("content", [b"", b"{", b"{}", b"[1]", b"\xff\xfe"])
def test_a_damaged_file_is_ignored(settings, files, content):
    files.info.write_bytes(content)
    assert find_service(settings) is None


def test_a_service_removes_only_its_own_file(files, info):
    files.write(info)
    files.remove(msgspec.structs.replace(info, pid=1))
    assert files.read() == info
    files.remove(info)
    files.remove(info)
    assert files.read() is None


def test_each_cache_folder_has_its_own_service_however_its_path_is_spelled(settings, tmp_path):
    def folder(cache):
        cache = CacheSettings(dir=str(cache))
        return ServiceFiles.of(msgspec.structs.replace(settings, cache=cache)).folder

    (tmp_path / "link").symlink_to(tmp_path / "cache")
    assert folder(tmp_path / "cache") == folder(tmp_path / "x" / ".." / "cache") == folder(tmp_path / "link")
    assert folder(tmp_path / "cache") != folder(tmp_path / "other")


def test_a_socket_whose_path_would_be_too_long_is_in_the_temporary_folder(settings, tmp_path):
    near = ServiceFiles.of(settings)
    far = ServiceFiles.of(msgspec.structs.replace(settings, service=ServiceSettings(dir=str(tmp_path / ("x" * 100)))))
    assert near.folder.name == far.folder.name
    assert len(str(far.socket)) < 100
    assert far.folder.name in str(far.socket)


def test_waiting_too_long_for_the_start_lock_is_an_error(settings, files, monkeypatch):
    monkeypatch.setattr("cupola.discovery.lifecycle._START_MARGIN_S", 0)
    with (
        hold_lock(files.start_lock, timeout_s=1),
        pytest.raises(ServiceStartError, match="starting or stopping it for"),
    ):
        start_service(settings)


def test_a_folder_that_cannot_be_created_is_an_error_that_names_the_setting(settings, tmp_path):
    (tmp_path / "service").write_text("a file")
    with pytest.raises(ServiceStartError, match=r"service\.dir") as raised:
        start_service(settings)
    assert str(raised.value).startswith("The service did not start. Its folder ")

"""What clients are told about errors, and what not."""

import inspect

import pytest

import cupola
from cupola.errors import (
    CacheError,
    CupolaError,
    DigestMismatchError,
    DiskFullError,
    DownloadError,
    LoadError,
    ModelFormatError,
    SettingsError,
    WorkerError,
)
from cupola_server.openai.errors import describe


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (DownloadError(model="m", detail="no route"), 502, "download_failed"),
        (DigestMismatchError(model="m", detail="", file="a", expected="b", actual="c"), 502, "download_failed"),
        (CacheError(path="/home/me/cache", detail="read-only"), 500, "cache_unusable"),
        (DiskFullError(path="/home/me/cache", detail="", needed_bytes=5, free_bytes=1), 507, "disk_full"),
        (ModelFormatError(path="/home/me/cache/m.onnx", detail="truncated"), 500, "model_damaged"),
        (LoadError(model="m", detail="Load from /home/me/cache/m.onnx failed"), 500, "model_load_failed"),
        (WorkerError(detail=r"C:\Users\me\cupola.dll is missing"), 503, "worker_failed"),
        (SettingsError(key="a", source="/home/me/config.toml", problem="unknown"), 500, "internal_error"),
        (OSError(2, "No such file", "/home/me/x"), 500, "internal_error"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_no_error_tells_where_files_lie(error, status, code):
    reply = describe(error)
    assert (reply.status, reply.error.code) == (status, code)
    assert reply.error.type == "server_error"
    assert "/me/" not in reply.error.message.replace("\\", "/")
    assert "home" not in reply.error.message


def test_what_only_looks_like_a_path_stays():
    text = "https://example.org/a/b answered 5 tokens/s and/or nothing"
    assert describe(WorkerError(detail=text)).error.message == text


def test_the_name_of_a_file_stays():
    assert "m.onnx failed" in describe(LoadError(model="m", detail="Load from /home/me/m.onnx failed")).error.message


def test_every_error_a_turn_can_meet_has_a_status_of_its_own_choosing():
    about_start_up = {
        "CupolaError",
        "SettingsError",
        "PluginConflictError",
        "PluginsFailedError",
        "ProviderInstallError",
        "ServiceError",  # and those below it: what a client of the service meets, on the other side of it
        "ServiceStartError",
        "ServiceReplyError",
    }
    errors = [kind for _, kind in inspect.getmembers(cupola, inspect.isclass) if issubclass(kind, CupolaError)]
    for kind in errors:
        error = kind.__new__(kind)
        for field in kind.__dataclass_fields__:
            setattr(error, field, 1 if kind.__dataclass_fields__[field].type in (int, float) else "x")
        assert (describe(error).error.code == "internal_error") == (kind.__name__ in about_start_up), kind

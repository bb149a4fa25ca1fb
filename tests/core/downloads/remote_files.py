"""Files that the tests download, and how."""

import hashlib
import random

from cupola.catalog import RemoteFile
from cupola.downloads import HttpDownloader
from cupola.frontend import ModelInfo
from cupola.settings import DownloadSettings

MODEL = ModelInfo(id="tiny-generic-cpu:1", alias="tiny", source="test", publisher="Publisher")
BIG = random.Random(1).randbytes(3_000_000)
FILES = {"genai_config.json": b"{}", "model.onnx": BIG, "deep/er/tokenizer.json": b'{"a": 1}', "empty.txt": b""}
SECRET = "?sig=TOPSECRET"


def downloader_with(**changes):
    defaults = {"workers": 1, "chunk_mb": 0.5, "retries": 0, "retry_pause_s": 0.01, "stall_timeout_s": 5.0}
    return HttpDownloader(DownloadSettings(**{**defaults, **changes}))


def ignore(event):
    pass


def remote(server, path, *, sha256=True, content=None):
    content = FILES[path] if content is None else content
    digest = hashlib.sha256(content).hexdigest() if sha256 else ""
    return RemoteFile(path, len(content), f"{server.url}/{path}{SECRET}", digest)


def asked_bytes(server, path):
    ranges = [asked.removeprefix("bytes=").split("-") for asked in server.requests_for(path)]
    return sum(int(end) + 1 - int(start) for start, end in ranges)


def files_in(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

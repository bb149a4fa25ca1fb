"""Fixtures: a file server and a downloader."""

import pytest

from core.downloads.remote_files import FILES, downloader_with
from file_server import FileServer


@pytest.fixture
def server():
    with FileServer(FILES) as server:
        yield server


@pytest.fixture
def downloader():
    """A downloader that fetches one chunk after the other, without retries."""
    return downloader_with()

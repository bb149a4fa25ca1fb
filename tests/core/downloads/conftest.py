"""A server and a downloader."""

import pytest

from core.downloads.remote_files import FILES, downloader_with
from file_server import FileServer


@pytest.fixture
def server():
    with FileServer(FILES) as server:
        yield server


@pytest.fixture
def downloader():
    """One that fetches chunk after chunk and tries nothing twice."""
    return downloader_with()

"""Downloads models from catalog sources into a cache store.

The engine calls `Acquirer`, which runs `acquire` as one of the `DownloadJobs`. Catalog sources are given an
`HttpDownloader` for files with URLs.
"""

from cupola.downloads.acquisition import Acquirer, acquire
from cupola.downloads.connections import silence_http_logs
from cupola.downloads.http import HttpDownloader
from cupola.downloads.jobs import DownloadJobs

__all__ = ["Acquirer", "DownloadJobs", "HttpDownloader", "acquire", "silence_http_logs"]

"""How a model gets from a catalog source into a cache store.

`bring` is the one way; the engine takes it through `Bringing`, as a job of `DownloadJobs`. `HttpDownloader` is what
sources are handed for files behind URLs.
"""

from cupola.downloads.addresses import keep_addresses_out_of_logs
from cupola.downloads.bring import bring
from cupola.downloads.bringing import Bringing
from cupola.downloads.http import HttpDownloader
from cupola.downloads.jobs import DownloadJobs

__all__ = ["Bringing", "DownloadJobs", "HttpDownloader", "bring", "keep_addresses_out_of_logs"]

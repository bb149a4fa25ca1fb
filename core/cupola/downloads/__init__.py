"""How a model gets from a catalog source into a cache store.

`acquire` is the one entry point; the engine calls it through `Acquirer`, as a job of `DownloadJobs`. Sources get an
`HttpDownloader` for files behind URLs.
"""

from cupola.downloads.acquisition import Acquirer, acquire
from cupola.downloads.connections import keep_addresses_out_of_logs
from cupola.downloads.http import HttpDownloader
from cupola.downloads.jobs import DownloadJobs

__all__ = ["Acquirer", "DownloadJobs", "HttpDownloader", "acquire", "keep_addresses_out_of_logs"]

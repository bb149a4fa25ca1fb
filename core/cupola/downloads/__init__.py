"""How a model gets from a catalog source into a cache store.

`bring` is the one way; the engine calls it. `HttpDownloader` is what sources are handed for files behind URLs.
"""

from cupola.downloads.bring import bring
from cupola.downloads.http import HttpDownloader

__all__ = ["HttpDownloader", "bring"]

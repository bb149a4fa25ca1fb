"""A process that brings one model: `downloading_process.py CACHE URL SIZE SHA256`. Tests start it, some kill it."""

import sys
from pathlib import Path

import anyio

from cupola.cache import ModelInfo
from cupola.catalog import CatalogSource, RemoteFile
from cupola.downloads import HttpDownloader, acquire
from cupola.settings import DownloadSettings
from cupola_plugins.filesystem import FilesystemCache

MODEL = ModelInfo(id="tiny-generic-cpu:1", alias="tiny", source="served", publisher="Publisher")
CONFIG_SHA256 = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"


class Served(CatalogSource):
    """One model of two files."""

    name = "served"

    def __init__(self, url, size_bytes, sha256):
        self.url, self.size_bytes, self.sha256 = url, size_bytes, sha256

    async def models(self):
        return [MODEL]

    async def files(self, model):
        return [
            RemoteFile("genai_config.json", 2, f"{self.url}/genai_config.json", CONFIG_SHA256),
            RemoteFile("model.onnx", self.size_bytes, f"{self.url}/model.onnx", self.sha256),
        ]


async def main(cache, url, size_bytes, sha256):
    source = Served(url, int(size_bytes), sha256)
    downloader = HttpDownloader(DownloadSettings(workers=1, chunk_mb=0.5, retries=0))
    await acquire(MODEL, source, FilesystemCache(Path(cache)), downloader, lambda event: None)


if __name__ == "__main__":
    anyio.run(main, *sys.argv[1:])

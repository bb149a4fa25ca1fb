"""A plugin with a model that is downloaded in two halves: the second once a file `go` exists beside the cache."""

import anyio

from cupola.catalog import CatalogSource
from cupola.frontend import ModelInfo, ProgressEvent, hookimpl


class Held(CatalogSource):
    name = "held"

    def __init__(self, settings):
        self.go = settings.cache_dir.parent / "go"
        self.fetches = 0

    async def models(self):
        shared = {"source": self.name, "publisher": "held", "provider": "EchoExecutionProvider"}
        return [ModelInfo(id="held-generic-cpu:1", alias="held", size_bytes=2_000_000, **shared)]

    async def files(self, model):
        return []

    async def fetch(self, model, staging, downloader, progress):
        half = staging.path / "half"
        progress(ProgressEvent("download", 1_000_000 if half.exists() else 0, 2_000_000))
        half.write_text("it is here")
        progress(ProgressEvent("download", 1_000_000, 2_000_000))
        while not self.go.exists():  # noqa: ASYNC110 - the test is another process
            await anyio.sleep(0.02)
        progress(ProgressEvent("download", 2_000_000, 2_000_000))
        (staging.path / "genai_config.json").write_text("{}")


@hookimpl
def catalog_sources(settings):
    return [Held(settings)]

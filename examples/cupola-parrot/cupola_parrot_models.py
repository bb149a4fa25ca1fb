"""The parrot's one model, so that there is something to run: a catalog of its own."""

from collections.abc import Sequence

import cupola


class Aviary(cupola.CatalogSource):
    name = "aviary"

    async def models(self) -> Sequence[cupola.ModelInfo]:
        shared = {"source": self.name, "publisher": "examples", "license": "Apache-2.0", "context_length": 1024}
        return [
            cupola.ModelInfo(id="grey-parrot-cpu:1", alias="grey-parrot", provider="ParrotExecutionProvider", **shared)
        ]

    async def files(self, model: cupola.ModelInfo) -> Sequence[cupola.RemoteFile]:
        return []  # a real catalog names addresses, sizes and digests here, and leaves out `fetch`

    async def fetch(
        self, model: cupola.ModelInfo, staging: cupola.Staging, downloader: cupola.Downloader, progress: cupola.Progress
    ) -> None:
        (staging.path / "genai_config.json").write_text("{}")
        progress(cupola.ProgressEvent("download", 1, 1, "files"))


@cupola.hookimpl
def catalog_sources(settings: cupola.Settings) -> list[cupola.CatalogSource]:
    return [Aviary()]

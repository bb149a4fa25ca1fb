"""A catalog with one model for the parrot, so that there is something to run."""

from collections.abc import Sequence

from cupola.catalog import (
    CatalogSource,
    Downloader,
    ModelInfo,
    Progress,
    ProgressEvent,
    RemoteFile,
    Settings,
    Staging,
    hookimpl,
)


class Aviary(CatalogSource):
    name = "aviary"

    async def models(self) -> Sequence[ModelInfo]:
        shared = {"source": self.name, "publisher": "examples", "license": "Apache-2.0", "context_length": 1024}
        return [ModelInfo(id="grey-parrot-cpu:1", alias="grey-parrot", provider="ParrotExecutionProvider", **shared)]

    async def files(self, model: ModelInfo) -> Sequence[RemoteFile]:
        return []  # a real catalog returns URLs, sizes and digests here, and has no `fetch`

    async def fetch(self, model: ModelInfo, staging: Staging, downloader: Downloader, progress: Progress) -> None:
        (staging.path / "genai_config.json").write_text("{}")
        progress(ProgressEvent("download", 1, 1, "files"))


@hookimpl
def catalog_sources(settings: Settings) -> list[CatalogSource]:
    return [Aviary()]

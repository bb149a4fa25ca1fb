"""Models of the echo provider whose downloads a test steers, step by step."""

import anyio

from cupola.catalog import CatalogSource, PromptTemplate
from cupola.errors import DigestMismatchError, DownloadError
from cupola.frontend import ModelInfo, ProgressEvent, hookimpl


def model(model_id, alias, **more):
    shared = {"source": "shelf", "publisher": "Shelf", "provider": "EchoExecutionProvider", "size_bytes": 3_145_728}
    return ModelInfo(id=model_id, alias=alias, **{**shared, **more})


FULL = model(
    "Phi-4-generic-cpu:1",
    "phi-4",
    source="azure",
    publisher="Microsoft",
    uri="azureml://registries/azureml/models/Phi-4-generic-cpu/versions/1",
    prompt_template=PromptTemplate("<|system|>{Content}", "<|user|>{Content}", "<|assistant|>{Content}", "{Content}"),
    license="MIT",
    license_description="This model is provided under the License Terms.",
    parent_uri="azureml://registries/azureml/models/Phi-4/versions/7",
    max_output_tokens=2048,
    min_version="0.3.0",
    model_settings=(("temperature", "0.7"),),
)
MODELS = (
    model("echo-generic-cpu:1", "echo"),
    model("echo-generic-cpu:2", "echo"),
    model("slow-generic-cpu:1", "slow"),
    model("lost-generic-cpu:1", "lost"),
    model("bad-generic-cpu:1", "bad"),
    model("fragile-generic-cpu:1", "fragile"),
    model("mine-generic-cpu:1", "mine", source="local"),
    model("elsewhere-npu:1", "elsewhere", device="NPU", provider="NobodysExecutionProvider"),
    FULL,
)


class Shelf(CatalogSource):
    """Brings "slow" in as many steps as the test sends events; says when it was cancelled."""

    name = "shelf"

    def __init__(self):
        self.send, self._events = anyio.create_memory_object_stream(100)
        self.cancelled = anyio.Event()

    def close(self):
        self.send.close()
        self._events.close()

    async def models(self):
        return MODELS

    async def files(self, model):
        return []

    async def fetch(self, model, staging, downloader, progress):
        if model.alias == "lost":
            raise DownloadError(model=model.id, detail="nobody {knows} where /home/me/it is")
        if model.alias == "bad":
            progress(ProgressEvent("download", 50, 100))
            raise DigestMismatchError(model=model.id, detail="", file="x.onnx", expected="ab", actual="cd")
        if model.alias == "slow":
            await self._step(progress)
        folder = staging.path / ("load-fails" if model.alias == "fragile" else "v1")  # a name the echo provider knows
        folder.mkdir()
        (folder / "genai_config.json").write_text("{}")

    async def _step(self, progress):
        try:
            while (event := await self._events.receive()) is not None:
                progress(event)
        except anyio.get_cancelled_exc_class():
            self.cancelled.set()
            raise


class ShelfPlugin:
    def __init__(self, shelf):
        self.shelf = shelf

    @hookimpl
    def catalog_sources(self, settings):
        return [self.shelf]

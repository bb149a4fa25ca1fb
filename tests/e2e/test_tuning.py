"""Tuning with a tiny model, a real worker for every layout, and the cache on disk."""

from importlib.metadata import EntryPoint

import pytest

from cupola.engine import open_engine
from cupola.errors import ModelFormatError
from cupola.frontend import ModelInfo
from cupola.plugins import PluginSet
from cupola.settings import CacheSettings, Settings
from cupola_plugins.filesystem import FilesystemCache
from tiny_model import write_tiny_model

pytestmark = pytest.mark.anyio
INFO = ModelInfo(id="tiny-generic-cpu:1", alias="tiny", source="test", publisher="me", size_bytes=1)


async def put(folder, name="model.onnx"):
    async with await FilesystemCache(folder).reserve(INFO) as staging:
        write_tiny_model(staging.path, context=2048)
        if name != "model.onnx":
            (staging.path / "model.onnx").rename(staging.path / name)
        await staging.commit()


def engine(folder):
    settings = Settings(cache=CacheSettings(dir=str(folder)))
    names = {
        "cpu": "cupola_providers.cpu",
        "filesystem": "cupola_plugins.filesystem",
        "relayout": "cupola_plugins.relayout",
    }
    return open_engine(settings, PluginSet(settings, [EntryPoint(*item, "cupola") for item in names.items()]))


async def test_every_layout_is_measured_and_the_winner_answers_to_the_alias(tmp_path):
    await put(tmp_path)
    told = []
    async with engine(tmp_path) as one:
        found = await one.tune("tiny", "throughput", max_divergence=1e9, progress=lambda _: None, on_trial=told.append)
        assert [trial.layout for trial in found.trials] == ["int8-rows", "int8-blocks", "int4-blocks", "int4-blocks-64"]
        assert told == list(found.trials)
        assert not any(trial.problem for trial in found.trials)
        assert found.trials[0].divergence == 0.0
        assert all(0 < trial.divergence < 5 for trial in found.trials[1:])
        assert all(min(t.prefill_per_s, t.decode_per_s, t.batch_per_s, t.size_bytes) > 0 for t in found.trials)
        cached = {model.info.id for model in await one.cached()}
        assert cached == {INFO.id, found.kept}
        assert (await one.resolve("tiny")).info.id == found.kept

        again = await one.tune("tiny", "latency", max_divergence=0.0, progress=lambda _: None, on_trial=told.append)
        assert again.model == again.kept == INFO.id  # nothing else is exactly the source
        assert {model.info.id for model in await one.cached()} == {INFO.id}


async def test_a_model_whose_weights_nobody_can_rewrite_is_a_clear_error(tmp_path):
    await put(tmp_path, name="decoder.onnx")
    async with engine(tmp_path) as one:
        with pytest.raises(ModelFormatError, match="no converter supports its weights"):
            await one.tune("tiny", "latency", max_divergence=1, progress=lambda _: None, on_trial=lambda _: None)

"""The engine with real plugins of every kind: a catalog, a cache on disk, a provider in worker processes."""

from contextlib import asynccontextmanager
from importlib.metadata import EntryPoint

import anyio
import pytest

from cupola import hookimpl
from cupola.catalog import CatalogSource, ModelConverter
from cupola.engine import open_engine
from cupola.errors import (
    DownloadError,
    InvalidParameterError,
    ModelBusyError,
    ModelNotCachedError,
    ModelNotFoundError,
    NoProviderError,
)
from cupola.events import DownloadEnded, TurnEnded
from cupola.frontend import ApiFrontend, ChatPrompt, EmbedRequest, Message, ModelInfo, TurnFinished
from cupola.plugins import PluginSet
from cupola.settings import CacheSettings, ModelSettings, Settings
from cupola_plugins.filesystem import FilesystemCache
from echo_specs import TESTS, chat

pytestmark = pytest.mark.anyio


class Shelf(CatalogSource):
    name = "shelf"

    async def models(self):
        shared = {"source": "shelf", "publisher": "me", "size_bytes": 10}
        return [
            ModelInfo(id="echo-generic-cpu:1", alias="echo", provider="EchoExecutionProvider", **shared),
            ModelInfo(id="echo-generic-cpu:2", alias="echo", provider="EchoExecutionProvider", **shared),
            ModelInfo(id="echo-npu:1", alias="echo", device="NPU", provider="NobodysExecutionProvider", **shared),
            ModelInfo(
                id="npu-only-npu:1", alias="npu-only", device="NPU", provider="NobodysExecutionProvider", **shared
            ),
            ModelInfo(id="twin-gpu:1", alias="twin", device="GPU", provider="TwinExecutionProvider", **shared),
            ModelInfo(id="absent-generic-cpu:1", alias="absent", provider="EchoExecutionProvider", **shared),
        ]

    async def files(self, model):
        return []

    async def fetch(self, model, staging, downloader, progress):
        if model.alias == "absent":
            raise ConnectionError("nobody answers")
        (staging.path / "genai_config.json").write_text("{}")


class Broken(CatalogSource):
    name = "broken"

    async def models(self):
        raise RuntimeError("the shelf fell down")

    async def files(self, model):
        return []


class Page(ApiFrontend):
    name, prefixes = "page", ("/page",)

    def app(self, engine):
        raise NotImplementedError


class Nothing(ModelConverter):
    name = "nothing"

    def layouts(self, source):
        return []

    async def convert(self, source, folder, *, layout, progress):
        raise NotImplementedError


class Plugin:
    def __init__(self):
        self.events = []

    @hookimpl
    def catalog_sources(self, settings):
        return [Broken(), Shelf()]

    @hookimpl
    def cache_stores(self, settings):
        return [FilesystemCache(settings.cache_dir)]

    @hookimpl
    def api_frontends(self, settings):
        return [Page()]

    @hookimpl
    def model_converters(self, settings):
        return [Nothing()]

    @hookimpl
    def observe(self, event):
        self.events.append(event)


plugin = Plugin()


@pytest.fixture
def opened(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", TESTS)
    plugin.events.clear()

    @asynccontextmanager
    async def opened(**models):
        settings = Settings(cache=CacheSettings(dir=str(tmp_path)), models=ModelSettings(**models))
        entries = [
            EntryPoint("echo", "echo_plugin", "cupola"),
            EntryPoint("twin", "twin_plugin", "cupola"),
            EntryPoint("all", f"{__name__}:plugin", "cupola"),
        ]
        async with open_engine(settings, PluginSet(settings, entries)) as engine:
            yield engine

    return opened


async def ask(engine, text="hello", **options):
    async with engine.generate(chat(text, **{"model": "echo", **options})) as generation:
        return "".join([event.text async for event in generation if not isinstance(event, TurnFinished)])


async def test_a_downloaded_model_answers_under_every_name_it_has(opened):
    async with opened() as engine:
        assert (await engine.download("echo")).info.id == "echo-generic-cpu:2"
        for name in ("echo", "ECHO-generic-cpu", "echo-generic-cpu:2"):
            assert await ask(engine, model=name) == "hello"
        assert [resident.info.id for resident in engine.residents()] == ["echo-generic-cpu:2"]
        assert (await engine.resolve("echo")).loaded


async def test_a_listing_survives_a_broken_source_and_puts_the_best_variant_first(opened):
    async with opened() as engine:
        await engine.download("echo-generic-cpu:1")
        echoes = [(status.info.id, status.cached) for status in await engine.models() if status.info.alias == "echo"]
    assert echoes == [("echo-npu:1", False), ("echo-generic-cpu:1", True), ("echo-generic-cpu:2", False)]


async def test_what_is_on_this_machine_comes_before_what_is_not(opened):
    async with opened() as engine:
        await engine.download("echo-generic-cpu:1")
        assert (await engine.resolve("echo")).info.id == "echo-generic-cpu:1"


async def test_a_cached_model_runs_without_any_catalog(opened, monkeypatch):
    async with opened() as engine:
        await engine.download("echo")
    monkeypatch.setattr(Plugin, "catalog_sources", hookimpl(lambda self, settings: []))
    async with opened() as engine:
        assert await ask(engine) == "hello"


async def test_an_unknown_name_gets_near_ones_in_its_error(opened):
    async with opened() as engine:
        with pytest.raises(ModelNotFoundError, match="Did you mean 'echo'"):
            await ask(engine, model="ecko")


async def test_a_request_starts_no_download_unless_allowed(opened):
    async with opened() as engine:
        with pytest.raises(ModelNotCachedError, match="cupola model download echo"):
            await ask(engine)
    async with opened(auto_download=True) as engine:
        assert await ask(engine) == "hello"


async def test_a_model_that_nothing_here_runs_is_refused_with_what_it_needs(opened):
    async with opened() as engine:
        with pytest.raises(NoProviderError, match="NobodysExecutionProvider on NPU. Available: EchoExec"):
            await engine.download("npu-only")


async def test_requests_for_one_model_share_one_download(opened):
    async with opened(auto_download=True) as engine:
        async with anyio.create_task_group() as group:
            for _ in range(4):
                group.start_soon(ask, engine)
        assert len(engine.residents()) == 1
    (download,) = (event for event in plugin.events if isinstance(event, DownloadEnded))
    assert download.ok


async def test_a_source_that_fails_underway_costs_that_download_alone(opened):
    async with opened() as engine:
        with pytest.raises(DownloadError, match="nobody answers"):
            await engine.download("absent")
        assert await engine.cached() == []
        await engine.download("echo")


async def test_a_model_that_is_brought_again_stays_until_the_new_one_is_whole(opened, monkeypatch):
    async def fetch(self, model, staging, downloader, progress):
        (staging.path / "half").write_text("of it")
        raise ConnectionError("the line is cut")

    async with opened() as engine:
        old = await engine.download("echo")
        (old.path / "mark").write_text("the old one")
        with monkeypatch.context() as patch:
            patch.setattr(Shelf, "fetch", fetch)
            with pytest.raises(DownloadError, match="the line is cut"):
                await engine.download("echo", force=True)
        assert [model.path for model in await engine.cached()] == [old.path]
        assert (old.path / "mark").exists()
        assert await ask(engine)
        new = await engine.download("echo", force=True)
        assert (new.path, (new.path / "mark").exists()) == (old.path, False)


async def test_a_model_in_use_is_not_removed_and_an_idle_one_is(opened):
    async with opened() as engine:
        await engine.download("echo")
        async with engine.generate(chat("forever slow", model="echo")):
            with pytest.raises(ModelBusyError):
                await engine.remove("echo")
        assert await engine.remove("echo")
        assert await engine.cached() == []
        assert not await engine.remove("echo")


async def test_observers_are_told_of_turns_whole_and_left_early(opened):
    async with opened(auto_download=True) as engine:
        await ask(engine)
        async with engine.generate(chat("forever slow", model="echo")) as generation:
            async for _ in generation:
                break
    whole, early = (event for event in plugin.events if isinstance(event, TurnEnded))
    assert (whole.reason, whole.usage.completion_tokens) == ("stop", 5)
    assert 0 < whole.first_token_s <= whole.total_s
    assert early.reason == "cancelled"
    assert 1 <= early.usage.completion_tokens < 100  # what had been computed when its reader left


async def test_explicit_loading_and_unloading(opened):
    async with opened(auto_download=True) as engine:
        status = await engine.load("echo", ttl_s=5)
        assert status.ttl_s == 5
        assert await engine.unload("echo")
        assert not await engine.unload("echo")
        assert engine.residents() == []


async def test_tokens_are_counted_and_read_back(opened):
    async with opened(auto_download=True) as engine:
        assert await engine.tokenize("echo", ChatPrompt((Message("user", "hi"),))) == (104, 105)
        assert await engine.detokenize("echo", [104, 105]) == "hi"
        with pytest.raises(InvalidParameterError, match="not an embedding model"):
            await engine.embed(EmbedRequest("echo", ("hi",)))


async def test_a_model_is_loaded_on_the_provider_that_is_asked_for_and_moves_only_when_idle(opened):
    async with opened() as engine:
        await engine.download("echo")
        assert (await engine.load("echo")).report.reason == "it only echoes"
        for name in ("echo", "EchoExecutionProvider"):
            assert (await engine.load("echo", provider=name)).report.reason == "it only echoes"
        pid = (await engine.load("echo")).pid
        async with engine.generate(chat("forever", model="echo")):
            with pytest.raises(ModelBusyError):
                await engine.load("echo", provider="twin")
            assert (await engine.load("echo")).pid == pid
        assert (await engine.load("echo", provider="Twin")).report.reason == "it echoes on CPU 0"
        assert (await engine.load("echo")).report.reason == "it echoes on CPU 0"


async def test_a_turn_runs_on_the_provider_that_it_asks_for(opened):
    async with opened() as engine:
        await engine.download("echo")
        for wanted, kind in ((None, "it only echoes"), ("twin", "it echoes on CPU 0"), (None, "it echoes on CPU 0")):
            async with engine.generate(chat("hello", model="echo", provider=wanted)) as generation:
                assert generation.report.reason == kind
        with pytest.raises(InvalidParameterError, match="Unknown execution provider 'cuda'"):
            await ask(engine, provider="cuda")


async def test_a_provider_that_is_not_here_is_named_with_those_that_are(opened):
    async with opened() as engine:
        await engine.download("echo")
        with pytest.raises(
            InvalidParameterError, match="Unknown execution provider 'cuda'. Available: .*echo, twin"
        ) as caught:
            await engine.load("echo", provider="cuda")
        assert caught.value.param == "provider"
        with pytest.raises(NoProviderError):
            await engine.load("npu-only", provider="twin")


async def test_models_run_on_the_gpu_that_was_chosen(opened):
    async with opened() as engine:
        await engine.download("twin")
        assert (await engine.load("twin")).report.reason == "it echoes on GPU 0"
        await engine.unload("twin")
        await engine.use_gpu(3)
        assert (await engine.load("twin")).report.reason == "it echoes on GPU 3"
        assert {device.index for device in engine.devices() if device.type == "GPU"} == {3}
        assert {device.index for device in engine.devices() if device.type == "CPU"} == {0}
        with pytest.raises(InvalidParameterError, match="Unknown GPU 1. Available: 0, 3"):
            await engine.use_gpu(1)
        await engine.use_gpu(0)
        assert {device.index for device in engine.devices() if device.type == "GPU"} == {0}

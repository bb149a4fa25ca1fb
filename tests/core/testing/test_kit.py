"""The author's kit by its own fakes: each passes its suite, and an engine runs with them."""

import pytest

from cupola.errors import RequestError
from cupola.frontend import EmbedRequest, GenerateRequest, TextPrompt, TurnFinished
from cupola.testing import (
    ApiFrontendSuite,
    CatalogSourceSuite,
    ExecutionProviderSuite,
    FakeEngine,
    HttpRequest,
    PlainFrontend,
    RepeatingProvider,
    RepeatingSession,
    SessionSuite,
    Shelf,
    engine_with,
)


class TestRepeatingSession(SessionSuite):
    unsupported = frozenset({"min_tokens", "top_logprobs", "guidance"})

    @pytest.fixture
    def session(self):
        return RepeatingSession(self.prefill_chunk)


class TestRepeatingProvider(ExecutionProviderSuite):
    reference = "repeating_plugin"

    @pytest.fixture
    def provider(self):
        return RepeatingProvider()

    @pytest.fixture
    def model_path(self, tmp_path_factory):
        folder = tmp_path_factory.mktemp("model")
        (folder / "genai_config.json").write_text("{}")
        return folder


class TestShelf(CatalogSourceSuite):
    fetches = True

    @pytest.fixture
    def source(self):
        return Shelf()


class TestPlainFrontend(ApiFrontendSuite):
    generating = HttpRequest("POST", "/plain", b"Hi")

    @pytest.fixture
    def frontend(self):
        return PlainFrontend()


async def answer(engine, text, model="example"):
    async with engine.generate(GenerateRequest(model, TextPrompt(text))) as generation:
        return "".join([event.text async for event in generation if not isinstance(event, TurnFinished)])


@pytest.mark.anyio
async def test_an_engine_with_a_plugin_runs_its_provider(tmp_path):
    async with engine_with("repeating_plugin", folder=tmp_path) as engine:
        await engine.download("example")
        assert await answer(engine, "hello") == "hello"
        (resident,) = engine.residents()
        assert resident.report.provider == "RepeatingExecutionProvider"


@pytest.mark.anyio
async def test_a_provider_that_lives_apart_runs_without_being_installed(tmp_path, monkeypatch):
    (tmp_path / "apart_driver.py").write_text("def version(): return '1.0'")
    monkeypatch.syspath_prepend(tmp_path)
    async with engine_with("apart_plugin", folder=tmp_path / "engine") as engine:
        await engine.download("example-apart")
        assert await answer(engine, "hello", "example-apart") == "hello"
        (resident,) = engine.residents()
        assert str(tmp_path / "engine" / "machine" / "environments" / "apart") in resident.report.reason


@pytest.mark.anyio
async def test_a_model_of_ones_own_is_what_the_provider_gets(tmp_path):
    (tmp_path / "model").mkdir()
    for name in ("genai_config.json", "weights"):
        (tmp_path / "model" / name).write_text("{}")
    async with engine_with("repeating_plugin", folder=tmp_path / "engine", model=tmp_path / "model") as engine:
        cached = await engine.download("example")
        assert sorted(path.name for path in cached.path.iterdir() if path.suffix != ".json") == ["weights"]


@pytest.mark.anyio
async def test_the_fake_engine_keeps_to_what_real_ones_do():
    engine = FakeEngine()
    assert await engine.detokenize("fake", await engine.tokenize("fake", TextPrompt("hi"))) == "hi"
    assert (await engine.load("FAKE", ttl_s=5)).ttl_s == 5
    with pytest.raises(RequestError):
        await engine.embed(EmbedRequest("fake", ("hi",)))

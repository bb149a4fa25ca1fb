"""The parrot by the author's kit, and in an engine."""

import pytest
from cupola_parrot import ParrotProvider, ParrotSession
from cupola_parrot_models import Aviary

from cupola.frontend import GenerateRequest, TurnText
from cupola.provider import ChatPrompt, Message
from cupola.testing import CatalogSourceSuite, ExecutionProviderSuite, SessionSuite, engine_with


class TestSession(SessionSuite):
    unsupported = frozenset({"stop_token_ids", "min_tokens", "top_logprobs", "guidance"})

    @pytest.fixture
    def session(self):
        return ParrotSession(self.prefill_chunk)


class TestProvider(ExecutionProviderSuite):
    reference = "cupola_parrot"

    @pytest.fixture
    def provider(self):
        return ParrotProvider()

    @pytest.fixture
    def model_path(self, tmp_path_factory):
        folder = tmp_path_factory.mktemp("model")
        (folder / "genai_config.json").write_text("{}")
        return folder


class TestCatalog(CatalogSourceSuite):
    fetches = True

    @pytest.fixture
    def source(self):
        return Aviary()


@pytest.mark.anyio
async def test_a_parrot_answers_in_a_worker_of_an_engine(tmp_path):
    request = GenerateRequest("grey-parrot", ChatPrompt((Message("user", "Pieces of eight"),)))
    async with engine_with("cupola_parrot", "cupola_parrot_models", folder=tmp_path) as engine:
        await engine.download("grey-parrot")
        async with engine.generate(request) as generation:
            said = "".join([event.text async for event in generation if isinstance(event, TurnText)])
    assert said == "Pieces of eight"


@pytest.fixture
def anyio_backend():
    return "asyncio"

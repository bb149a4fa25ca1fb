"""The front-end with a store of its own."""

import pytest
from msgspec.structs import replace

from cupola.frontend import Settings
from cupola.settings import ResponseSettings
from cupola_server.openai import OpenAIFrontend
from server.fake_engine import running
from server.openai.responses.wire import THINKING


@pytest.fixture
def settings(tmp_path):
    return Settings(responses=ResponseSettings(dir=str(tmp_path / "responses")))


@pytest.fixture
async def url(engine, settings):
    async with running(OpenAIFrontend(settings).app(engine)) as url:
        yield url


@pytest.fixture
def thinking(engine):
    engine.report = replace(engine.report, template=THINKING)
    return engine

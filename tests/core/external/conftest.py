"""A service that stands in for one elsewhere, and an engine that offers its models."""

from contextlib import asynccontextmanager

import pytest

from cupola.engine import open_engine
from cupola.plugins import PluginSet
from cupola.settings import CacheSettings, ExternalSettings, Settings
from openai_stand_in import KEY, StandIn


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    return request.param


@pytest.fixture
def service():
    with StandIn() as service:
        yield service


@pytest.fixture
def opened(service, tmp_path, monkeypatch):
    """Open an engine that offers models of the service, and nothing of its own."""
    monkeypatch.setenv("CLOUD_KEY", KEY)

    @asynccontextmanager
    async def opened(**more):
        chosen = {"base_url": service.url, "models": ("big", "Org/Wide"), "api_key_env": "CLOUD_KEY", **more}
        settings = Settings(cache=CacheSettings(dir=str(tmp_path)), external={"cloud": ExternalSettings(**chosen)})
        async with open_engine(settings, PluginSet(settings, [])) as engine:
            yield engine

    return opened

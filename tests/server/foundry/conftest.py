"""A real engine with the echo provider, served with the front-ends `openai` and `foundry` on loopback."""

from contextlib import asynccontextmanager
from importlib.metadata import EntryPoint
from types import SimpleNamespace

import anyio
import httpx
import pytest

from cupola.engine import open_engine
from cupola.frontend import Settings
from cupola.plugins import PluginSet
from cupola.settings import CacheSettings, ServerSettings
from cupola_server.app import compose
from cupola_server.foundry import FoundryFrontend
from cupola_server.health import Health
from cupola_server.openai import OpenAIFrontend
from cupola_server.server import serve
from cupola_server.service import RunningService
from echo_specs import TESTS
from server.foundry.shelf_plugin import Shelf, ShelfPlugin


class Given(EntryPoint):
    """An entry point that brings an object made by the test."""

    def load(self):
        return GIVEN[self.name]


GIVEN = {}


@pytest.fixture
def started(tmp_path, monkeypatch):
    """Start a service; yields its URL, engine, shelf and the object through which it is stopped."""
    monkeypatch.setenv("PYTHONPATH", TESTS)

    @asynccontextmanager
    async def started(server=None, plugins=(), **sections):
        shelf = Shelf()
        GIVEN["shelf"] = ShelfPlugin(shelf)
        settings = Settings(cache=CacheSettings(dir=str(tmp_path / "models")), **sections)
        entries = [
            EntryPoint("echo", "echo_plugin", "cupola"),
            EntryPoint("filesystem", "cupola_plugins.filesystem", "cupola"),
            Given("shelf", "", "cupola"),
            *(EntryPoint(name, name, "cupola") for name in plugins),
        ]
        service, health, listening, ended = RunningService(anyio.Event()), Health(), anyio.Event(), anyio.Event()

        def ready(url):
            service.urls = (url,)
            listening.set()

        async def serving():
            app = compose([OpenAIFrontend(settings), FoundryFrontend(settings)], engine, health, service)
            chosen = ServerSettings(**{"port": 0, "drain_timeout_s": 5, **(server or {})})
            await serve(app, chosen, ready=ready, stop=service.stopping, health=health)
            ended.set()

        async with open_engine(settings, PluginSet(settings, entries)) as engine, anyio.create_task_group() as tasks:
            tasks.start_soon(serving)
            await listening.wait()
            yield SimpleNamespace(
                url=service.urls[0], engine=engine, shelf=shelf, service=service, ended=ended, cache=settings.cache_dir
            )
            service.stop()
        shelf.close()

    return started


@pytest.fixture
async def running(started):
    async with started() as running:
        yield running


@pytest.fixture
async def http(running):
    async with httpx.AsyncClient(base_url=running.url, timeout=20) as http:
        yield http

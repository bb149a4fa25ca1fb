"""The built-in front-ends by the author's kit."""

import importlib

import pytest

from cupola.frontend import Settings
from cupola.testing import ApiFrontendSuite, HttpRequest


class BuiltIn(ApiFrontendSuite):
    reference = ""

    @pytest.fixture
    def frontend(self, tmp_path):
        module, _, attribute = self.reference.partition(":")
        plugin = importlib.import_module(module)
        settings = Settings()
        (frontend,) = (getattr(plugin, attribute) if attribute else plugin).api_frontends(settings=settings)
        return frontend


CHAT = b'{"model": "fake", "messages": [{"role": "user", "content": "Hi"}]}'


class TestOpenAI(BuiltIn):
    reference = "cupola_server.openai"
    requests = (HttpRequest("GET", "/v1/models"), HttpRequest("GET", "/v1/models/fake"))
    generating = HttpRequest("POST", "/v1/chat/completions", CHAT)


class TestNative(BuiltIn):
    reference = "cupola_server.native"
    requests = (HttpRequest("GET", "/cupola/ps"),)


class TestMetrics(BuiltIn):
    reference = "cupola_server.metrics:plugin"
    requests = (HttpRequest("GET", "/metrics"),)


class TestFoundry(BuiltIn):
    reference = "cupola_server.foundry"
    requests = (
        HttpRequest("GET", "/openai/models"),
        HttpRequest("GET", "/foundry/list"),
        HttpRequest("GET", "/openai/loadedmodels"),
    )

"""Conformance tests for execution providers: subclass `ExecutionProviderSuite` and provide a provider.

Example::

    from cupola.testing import ExecutionProviderSuite

    class TestMyProvider(ExecutionProviderSuite):
        reference = "cupola_myaccelerator"

        @pytest.fixture
        def provider(self):
            return MyProvider()

        @pytest.fixture
        def model_path(self):
            return Path("folder/of/a/small/model")  # optional; loading is not tested without it

Sessions have their own suite, `SessionSuite`.
"""

import re
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, ClassVar, get_args

import pytest
from packaging.requirements import Requirement

from cupola.contracts import (
    Device,
    DeviceType,
    EmbeddingSession,
    ExecutionProvider,
    Limits,
    ModelFiles,
    ProviderReport,
    Session,
    Turn,
)
from cupola.environments import probe
from cupola.errors import LoadError, ModelFormatError, SettingsError
from cupola.messages import Sampling
from cupola.plugins import GROUP, PluginSet, ProviderEntry, provider_options
from cupola.settings import Settings
from cupola.testing.engine import paths_for_workers
from cupola.testing.sessions import run_turn
from cupola.worker.launch import Interpreter

_PROBE_S = 60.0
_RUNTIMES = ("onnxruntime", "onnxruntime_genai", "torch", "tensorflow", "openvino")
_IMPORTED = "import importlib, sys; importlib.import_module(sys.argv[1]); print(*sys.modules)"


@pytest.mark.anyio
class ExecutionProviderSuite:
    """Conformance tests for execution providers. Override the fixture `provider`, and `model_path` if possible.

    Attributes:
        reference: The plugin's entry point, "module" or "module:attribute".
        options: Options of the provider that differ from its defaults.
    """

    reference: ClassVar[str]
    options: ClassVar[dict[str, Any]] = {}

    @pytest.fixture
    def anyio_backend(self) -> str:
        """Return the event loop to test on."""
        return "asyncio"

    @pytest.fixture
    def provider(self) -> ExecutionProvider:
        """Return the provider."""
        raise NotImplementedError("override the fixture `provider`")

    @pytest.fixture
    def model_path(self) -> Path | None:
        """Return the folder of a model for the provider's first device; None skips the tests of loading."""
        return None

    @pytest.fixture
    def settings(self, provider: ExecutionProvider) -> Settings:
        """Return settings with the provider's options."""
        return Settings(providers={provider.alias: self.options} if self.options else {})

    @pytest.fixture
    def entry(self, provider: ExecutionProvider, settings: Settings) -> ProviderEntry:
        """Return the provider as the engine loads it."""
        found = PluginSet(settings, [EntryPoint("suite", self.reference, GROUP)])
        assert found.failures == []
        assert found.conflicts == []
        return next(entry for entry in found.providers if entry.provider.name == provider.name)

    def test_it_has_the_names_that_catalogs_and_people_use(self, provider: ExecutionProvider) -> None:
        assert re.fullmatch(r"\w+", provider.name)
        assert re.fullmatch(r"[a-z0-9][a-z0-9_-]*", provider.alias)

    def test_its_kinds_of_devices_are_known_ones(self, provider: ExecutionProvider) -> None:
        assert provider.device_types
        assert set(provider.device_types) <= set(get_args(DeviceType))
        assert len(set(provider.device_types)) == len(provider.device_types)

    def test_what_it_requires_can_be_installed_again_next_year(self, provider: ExecutionProvider) -> None:
        for text in provider.requirements:
            requirement = Requirement(text)
            assert requirement.specifier or requirement.url, f"pin {text!r}"

    def test_an_option_that_it_does_not_have_is_an_error(self, provider: ExecutionProvider) -> None:
        wrong = Settings(providers={provider.alias: {**self.options, "no_such_option": 1}})
        with pytest.raises(SettingsError, match="no_such_option"):
            provider_options(provider, wrong)

    def test_what_must_be_set_before_a_worker_starts_is_text(self, entry: ProviderEntry) -> None:
        for name, value in entry.provider.environment(entry.options).items():
            assert isinstance(name, str)
            assert isinstance(value, str)

    def test_importing_the_plugin_imports_no_runtime(self) -> None:
        module = self.reference.partition(":")[0]
        with paths_for_workers():
            done = subprocess.run(
                [sys.executable, "-c", _IMPORTED, module], check=True, capture_output=True, text=True, timeout=60
            )
        assert set(done.stdout.split()) & set(_RUNTIMES) == set()

    async def test_its_probe_tells_of_devices_or_of_what_is_in_the_way(
        self, entry: ProviderEntry, settings: Settings
    ) -> None:
        report = await self.probed(entry, settings)
        assert report.provider == entry.provider.name
        places = [(device.type, device.index) for device in report.devices]
        assert len(set(places)) == len(places)
        for device in report.devices:
            assert device.provider == entry.provider.name
            assert device.type in entry.provider.device_types
            assert device.memory_bytes >= 0
        if not report.devices:
            assert report.problem
            assert report.remedy or entry.provider.prerequisites

    async def test_it_loads_a_model_and_answers(
        self, entry: ProviderEntry, settings: Settings, model_path: Path | None
    ) -> None:
        device = await self.device(entry, settings, model_path)
        assert model_path
        session = entry.provider.load(ModelFiles("suite:1", model_path), device, entry.options, Limits())
        try:
            assert isinstance(session, Session | EmbeddingSession)
            prompt = session.tokenizer.encode("Hello")
            assert prompt
            if isinstance(session, EmbeddingSession):
                (vector,) = session.embed([prompt])
                assert len(vector) == session.dimensions
            else:
                answer = run_turn(session, Turn(1, prompt, 4, Sampling(temperature=0.0), ignore_eos=True))
                assert answer.error is None
                assert len(answer.tokens) == 4
        finally:
            session.close()

    async def test_a_folder_without_a_model_is_an_error_that_says_so(
        self, entry: ProviderEntry, settings: Settings, model_path: Path | None, tmp_path: Path
    ) -> None:
        device = await self.device(entry, settings, model_path)
        with pytest.raises((LoadError, ModelFormatError)):
            entry.provider.load(ModelFiles("suite:1", tmp_path), device, entry.options, Limits())

    async def probed(self, entry: ProviderEntry, settings: Settings) -> ProviderReport:
        """Probe the provider in a process of this interpreter, as the engine does."""
        with paths_for_workers():
            finding = await probe(entry, settings, Interpreter(), timeout_s=_PROBE_S)
        assert finding.ran, finding.report.problem
        return finding.report

    async def device(self, entry: ProviderEntry, settings: Settings, model_path: Path | None) -> Device:
        """Return the first device; skips the test if there is no device or no model."""
        if model_path is None:
            pytest.skip("override the fixture `model_path` to test loading")
        report = await self.probed(entry, settings)
        if not report.devices:
            pytest.skip(report.problem)
        return report.devices[0]

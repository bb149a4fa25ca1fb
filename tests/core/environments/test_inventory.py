"""Probes run in real processes, in which a provider may crash, hang or fail without affecting the others."""

from importlib.metadata import EntryPoint

import anyio
import psutil
import pytest

from cupola import Settings
from cupola.environments import Inventory
from cupola.plugins import PluginSet
from cupola.settings import MachineSettings
from echo_specs import TESTS

pytestmark = pytest.mark.anyio
TIMEOUT_S = 6.0


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    return request.param


@pytest.fixture
def inventory(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", TESTS)
    settings = Settings(machine=MachineSettings(dir=str(tmp_path / "machine"), probe_timeout_s=TIMEOUT_S))

    def inventory(*names, entries=("faulty_providers", "echo_plugin")):
        found = PluginSet(settings, [EntryPoint(name, name, "cupola") for name in entries])
        chosen = [entry for entry in found.providers if not names or entry.provider.alias in names]
        return Inventory(chosen, settings)

    return inventory


async def test_a_provider_that_crashes_hangs_or_raises_does_not_affect_the_others(inventory):
    every = inventory()
    before = set(psutil.Process().children(recursive=True))
    with anyio.fail_after(2 * TIMEOUT_S + 5):
        assert await every.refresh(everything=True)
    problems = {entry.provider.alias: every.finding(entry).report for entry in every.providers}
    assert problems["echo"].problem == problems["fine"].problem == ""
    assert problems["fine"].versions == {"driver": "1.2"}
    assert problems["bare"].problem == "there is no accelerator"
    assert "SIGSEGV; its error output: about to crash" in problems["crashing"].problem
    assert problems["hanging"].problem.startswith(f"It did not report within {TIMEOUT_S:g} s")
    assert "No module named 'no_such_runtime'" in problems["unimportable"].problem
    assert "ended with an error: exit code 0" in problems["lying"].problem
    assert all(report.remedy for report in problems.values() if report.problem)
    assert set(psutil.Process().children(recursive=True)) == before
    assert [p for p in psutil.process_iter(["cmdline"]) if p.info["cmdline"] == ["sleep", "60.0471"]] == []


async def test_devices_are_those_of_the_probes_in_the_providers_order(inventory):
    here = inventory("fine", "bare", "echo")
    assert [(device.provider, device.type) for device in here.devices()] == [("EchoExecutionProvider", "CPU")]
    await here.refresh()
    assert [(device.provider, device.type, device.name) for device in here.devices()] == [
        ("FineExecutionProvider", "NPU", "two"),
        ("FineExecutionProvider", "GPU", "one"),
        ("EchoExecutionProvider", "CPU", ""),
    ]


async def test_a_cpu_provider_needs_no_probe(inventory, monkeypatch):
    monkeypatch.setattr("cupola.environments.inventory.probe", None)
    echo = inventory("echo")
    assert not await echo.refresh()
    assert [device.type for device in echo.devices()] == ["CPU"]


async def test_results_are_stored_until_the_probed_provider_changes(inventory, monkeypatch):
    assert await inventory("fine").refresh()
    monkeypatch.setattr("cupola.environments.inventory.probe", None)
    known = inventory("fine")
    assert len(known.devices()) == 2
    assert not await known.refresh()
    monkeypatch.setattr("cupola.environments.inventory._version", lambda: "another one")
    changed = inventory("fine")
    assert changed.devices() == []
    with pytest.raises((TypeError, BaseExceptionGroup)):
        await changed.refresh()


async def test_a_provider_without_devices_is_probed_again_after_an_hour(inventory, monkeypatch):
    first = inventory("bare")
    await first.refresh()
    assert first.finding(first.providers[0]).report.remedy == "buy one"
    monkeypatch.setattr("cupola.environments.inventory._RETRY_S", 0.0)
    assert inventory("bare").finding(first.providers[0]) is None


@pytest.mark.parametrize("content", ["", "[]", '{"FineExecutionProvider": 1}'])
async def test_damaged_results_are_probed_again(inventory, tmp_path, content, caplog):
    (tmp_path / "machine").mkdir()
    (tmp_path / "machine" / "probes.json").write_text(content)
    again = inventory("fine")
    assert "cannot be read, so providers are probed again" in caplog.text
    assert await again.refresh()
    assert len(inventory("fine").devices()) == 2


async def test_cancelling_ends_the_probes(inventory):
    before = set(psutil.Process().children(recursive=True))
    with anyio.move_on_after(0.7) as patience:
        await inventory("hanging").refresh()
    assert patience.cancelled_caught
    assert set(psutil.Process().children(recursive=True)) == before

"""Environments are created by the real pip from local wheels, completely or not at all."""

import subprocess
from importlib.metadata import EntryPoint
from pathlib import Path

import anyio
import psutil
import pytest

from cupola import Settings
from cupola.environments import Environments, Inventory, install
from cupola.errors import ProviderInstallError
from cupola.plugins import PluginSet
from cupola.settings import MachineSettings
from echo_specs import TESTS
from tiny_wheel import make_wheel

DRIVER = "def version(): return '1.0'"
ELSEWHERE = "not-on-any-index==1; sys_platform == 'plan9'"


@pytest.fixture
def settings(tmp_path):
    return Settings(machine=MachineSettings(dir=str(tmp_path / "machine")))


@pytest.fixture
def apart(settings, monkeypatch):
    """Return a function that gives the provider `apart` these requirements and returns its entry."""
    monkeypatch.syspath_prepend(TESTS)

    def apart(*requirements):
        found = PluginSet(settings, [EntryPoint("apart", "apart_plugin", "cupola")])
        (entry,) = found.providers
        monkeypatch.setattr(type(entry.provider), "requirements", requirements)
        return entry

    return apart


@pytest.fixture
def nothing_left(settings):
    """Check that a test leaves no part of an environment and no process."""
    before = set(psutil.Process().children(recursive=True))
    yield
    assert not settings.environments_dir.exists() or list(settings.environments_dir.iterdir()) == []
    assert set(psutil.Process().children(recursive=True)) == before


@pytest.mark.anyio
async def test_an_environment_has_the_applicable_packages_and_the_provider_runs_in_it(
    apart, settings, tmp_path, monkeypatch
):
    monkeypatch.delenv("PIP_QUIET", raising=False)
    entry = apart(make_wheel(tmp_path, "apart_driver", DRIVER), ELSEWHERE)
    inventory = Inventory([entry], settings)
    assert (inventory.state(entry), inventory.devices()) == ("not installed", [])
    with (tmp_path / "output").open("wb") as output:
        environment = await install(entry, settings, output=output)
    assert "Successfully installed" in (tmp_path / "output").read_text()
    assert environment.path == settings.environments_dir / "apart"
    packages = {path.name.partition("-")[0] for path in environment.path.rglob("*.dist-info")}
    assert {"apart_driver", "msgspec"} <= packages
    assert not packages & {"cupola", "onnxruntime", "starlette", "httpx", "not_on_any_index"}
    await inventory.refresh()
    (device,) = inventory.devices()
    assert device.name == str(environment.path)
    assert inventory.finding(entry).report.versions == {"apart_driver": "1.0"}
    assert list(settings.environments_dir.iterdir()) == [environment.path]
    apart("apart_driver==2.0")
    assert (inventory.state(entry), inventory.devices()) == ("outdated", [])
    assert Environments(settings.environments_dir).remove("apart")
    assert list(settings.environments_dir.iterdir()) == []


@pytest.mark.anyio
async def test_an_environment_whose_probe_crashes_is_not_kept(apart, settings, tmp_path, nothing_left):
    crash = "import ctypes; ctypes.string_at(0)"
    with pytest.raises(ProviderInstallError, match="installed, but it does not run: .*SIGSEGV"):
        await install(apart(make_wheel(tmp_path, "apart_driver", crash)), settings, output=subprocess.DEVNULL)


@pytest.mark.anyio
async def test_an_error_of_pip_is_quoted(apart, settings, nothing_left):
    entry = apart("apart_driver @ file:///no-such-folder/apart_driver-1.0-py3-none-any.whl")
    with pytest.raises(ProviderInstallError, match="'apart' was not installed: pip failed: .*no-such-folder"):
        await install(entry, settings, output=subprocess.DEVNULL)


@pytest.mark.parametrize(
    ("requirements", "said"),
    [
        ((), "needs no environment of its own"),
        ((ELSEWHERE,), "no packages of it for this machine. It wants a driver from its vendor"),
        (("what is this?",), "its plugin has a fault: 'what is this\\?' is not a valid requirement"),
    ],
)
@pytest.mark.anyio
async def test_a_provider_that_cannot_be_installed_is_an_error_with_the_reason(
    apart, settings, nothing_left, requirements, said
):
    with pytest.raises(ProviderInstallError, match=said):
        await install(apart(*requirements), settings, output=subprocess.DEVNULL)


@pytest.mark.anyio
async def test_cancelling_an_installation_leaves_no_files_and_no_process(apart, settings, tmp_path, nothing_left):
    asked = anyio.Event()

    async def say_nothing(stream):
        async with stream:
            asked.set()
            await anyio.sleep_forever()

    # A package index that never answers keeps pip waiting.
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as index, anyio.create_task_group() as tasks:
        tasks.start_soon(index.serve, say_nothing)
        port = index.extra(anyio.abc.SocketAttribute.local_port)
        entry = apart(f"apart_driver @ http://127.0.0.1:{port}/apart_driver-1.0-py3-none-any.whl")
        async with anyio.create_task_group() as installing:
            installing.start_soon(lambda: install(entry, settings, output=subprocess.DEVNULL))
            with anyio.fail_after(60):
                await asked.wait()
            assert len(list(settings.environments_dir.iterdir())) == 1
            installing.cancel_scope.cancel()
        tasks.cancel_scope.cancel()


def test_build_folders_of_killed_processes_are_deleted_and_those_of_running_ones_kept(settings):
    folder = settings.environments_dir
    folder.mkdir(parents=True)
    gone = subprocess.Popen(["true"])
    gone.wait()
    (folder / f".building-{gone.pid}-x").mkdir()
    living = folder / f".building-{psutil.Process().ppid()}-x"
    living.mkdir()
    with Environments(folder).build_folder() as mine:
        assert set(folder.iterdir()) == {mine, living}
    assert list(folder.iterdir()) == [living]


def test_a_damaged_environment_is_ignored_and_can_be_removed(settings, caplog):
    folder = settings.environments_dir / "apart"
    folder.mkdir(parents=True)
    (folder / "cupola.json").write_text("{")
    assert Environments(settings.environments_dir).find("apart") is None
    assert "damaged" in caplog.text
    assert Environments(settings.environments_dir).remove("apart")
    assert not Environments(settings.environments_dir).remove("apart")
    assert not Path(folder).exists()

"""Environments of execution providers for tests: made once per machine, kept in the platform's cache folder."""

import subprocess
import time
import venv

import anyio

from conftest import SHARED_CACHE
from cupola import Settings
from cupola.environments import Environments, Inventory, install
from cupola.environments.environment import EnvironmentRecord, python_path, worker_requirements
from cupola.plugins import load_plugins
from cupola.provider import ProviderReport
from cupola.settings import MachineSettings

GENAI = "onnxruntime-genai==0.18.0"


def installed(alias, *, extra=()):
    """Install a provider as `cupola provider install` does, unless that was done before; returns settings with it."""
    settings = Settings(machine=MachineSettings(dir=str(SHARED_CACHE.parent / "machine")))
    entry = entry_of(alias, settings, extra)
    if Inventory([entry], settings).state(entry) != "installed":
        anyio.run(lambda: install(entry, settings, output=subprocess.DEVNULL))
    return settings


def built_in(alias, package):
    """Make the environment of a provider from an ONNX Runtime that was built with it; returns settings with it.

    pip would not do it: the package is no `onnxruntime` to it, which onnxruntime-genai wants.
    """
    settings = Settings(machine=MachineSettings(dir=str(SHARED_CACHE.parent / f"machine-{package.replace('==', '-')}")))
    entry = entry_of(alias, settings)
    environments = Environments(settings.environments_dir)
    if Inventory([entry], settings).state(entry) != "installed":
        with environments.build_folder() as folder:
            built = folder / "venv"
            venv.create(built, with_pip=True)
            pip = [python_path(built), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            subprocess.run([*pip, package, *worker_requirements()], check=True, timeout=300)
            subprocess.run([*pip, "--no-deps", GENAI], check=True, timeout=300)
            provider = entry.provider
            record = EnvironmentRecord(provider.name, provider.requirements, time.time(), ProviderReport(provider.name))
            environments.commit(alias, built, record)
    return settings


def entry_of(alias, settings, extra=()):
    """Return the installed provider of that name."""
    return next(entry for entry in load_plugins(settings, extra).providers if entry.provider.alias == alias)


def environment_of(alias, settings):
    """Return a provider's environment."""
    environment = Environments(settings.environments_dir).find(alias)
    assert environment
    return environment

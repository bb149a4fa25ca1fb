"""What this machine can run models on: what is assumed, what probes found, and what is in the way of the rest."""

import logging
import platform
import sysconfig
import time
from collections.abc import Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Literal

import anyio
import msgspec
import psutil
from msgspec import Struct

from cupola.contracts import Device
from cupola.environments.environment import Environment, Environments, applying
from cupola.environments.probes import probe
from cupola.files import replace_file
from cupola.plugins import ProviderEntry
from cupola.settings import Settings
from cupola.worker.interpreter import Interpreter, shared_modules
from cupola.worker.prober import Finding

logger = logging.getLogger(__name__)
_RETRY_S = 3600.0  # a provider without devices is probed again after this

State = Literal["built in", "installed", "outdated", "not installed", "not for this machine"]


class Remembered(Struct, frozen=True):
    """A finding, and what it was found of: while that stays the same, so does the finding."""

    of: str
    found_at_unix: float
    finding: Finding


class Inventory:
    """The execution providers on this machine.

    A provider that runs in Cupola's own environment on nothing but the processor is assumed to have one, so that who
    uses the CPU alone waits for no probe. The devices of others are those that their probes found. Reports are
    remembered on disk until what was probed changes: the environment, the plugin, the options, or the system's start.
    """

    def __init__(self, providers: Sequence[ProviderEntry], settings: Settings) -> None:
        self.providers = providers
        self._settings = settings
        self._environments = Environments(settings.environments_dir)
        self._path = settings.machine_dir / "probes.json"
        self._remembered = _read(self._path) if any(not is_assumed(entry) for entry in providers) else {}
        self._probing = anyio.Lock()

    def state(self, entry: ProviderEntry) -> State:
        """Say whether a provider's environment is there."""
        provider = entry.provider
        if not provider.requirements:
            return "built in"
        if environment := self.environment(entry):
            return "installed" if environment.suits(provider.requirements) else "outdated"
        try:
            return "not installed" if applying(provider.requirements) else "not for this machine"
        except ValueError as error:
            logger.warning("The execution provider %s has a fault: %s", provider.name, error)
            return "not for this machine"

    def is_ready(self, entry: ProviderEntry) -> bool:
        """Say whether a provider's workers can be started: in our own environment, or in one made for it as it is."""
        environment = self.environment(entry)
        return not entry.provider.requirements or bool(environment and environment.suits(entry.provider.requirements))

    def environment(self, entry: ProviderEntry) -> Environment | None:
        """Return a provider's own environment; None if it has none."""
        return self._environments.find(entry.provider.alias) if entry.provider.requirements else None

    def interpreter(self, entry: ProviderEntry) -> Interpreter:
        """Return what runs a provider's workers: that of its environment, or the service's own."""
        environment = self.environment(entry)
        if environment is None:
            return Interpreter()
        return Interpreter(environment.python, shared_modules(entry.reference, entry.distribution))

    def devices(self) -> list[Device]:
        """List the devices known now, by provider and in each provider's order of preference. Waits for nothing."""
        return [device for entry in self.providers for device in self.devices_of(entry)]

    def devices_of(self, entry: ProviderEntry) -> Sequence[Device]:
        """List the devices of one provider that are known now, in its order of preference."""
        provider = entry.provider
        if is_assumed(entry):
            return [Device(provider.name, kind) for kind in provider.device_types]
        if not self.is_ready(entry):
            return ()
        devices = finding.report.devices if (finding := self.finding(entry)) else ()
        return sorted(devices, key=lambda each: _place(provider.device_types, each.type))

    def finding(self, entry: ProviderEntry) -> Finding | None:
        """Return what a provider's last probe found; None if it has to be probed first."""
        remembered = self._remembered.get(entry.provider.name)
        if remembered is None or remembered.of != self._fingerprint(entry):
            return None
        is_old = not 0 <= time.time() - remembered.found_at_unix < _RETRY_S
        return None if is_old and not remembered.finding.report.devices else remembered.finding

    async def refresh(self, *, everything: bool = False) -> bool:
        """Probe the providers of which nothing is known, all at once; returns whether the devices changed.

        Args:
            everything: Probe those that something is known of, too, and those that are assumed.
        """
        async with self._probing:
            before = self.devices()
            usable = [entry for entry in self.providers if self.is_ready(entry)]
            wanted = [e for e in usable if everything or not (is_assumed(e) or self.finding(e))]
            async with anyio.create_task_group() as tasks:
                for entry in wanted:
                    tasks.start_soon(self._probe, entry)
            if wanted:
                _write(self._path, self._remembered)
            return self.devices() != before

    async def _probe(self, entry: ProviderEntry) -> None:
        of = self._fingerprint(entry)
        finding = await probe(entry, self._settings, self.interpreter(entry))
        if not finding.ran:
            logger.warning("The execution provider %s: %s", entry.provider.name, finding.report.problem)
        self._remembered[entry.provider.name] = Remembered(of, time.time(), finding)

    def _fingerprint(self, entry: ProviderEntry) -> str:
        """Describe everything that a report depends on."""
        environment = self.environment(entry)
        packages = Path(sysconfig.get_path("purelib"))
        made = environment.record.made_at_unix if environment else packages.stat().st_mtime
        parts = (_version(), _brought_by(entry), entry.reference, made, platform.python_version(), _system_start())
        return "|".join(map(str, (*parts, msgspec.json.encode(entry.options).decode())))


def is_assumed(entry: ProviderEntry) -> bool:
    """Say whether a provider needs no probe: nothing but a processor, and no packages of its own."""
    return not entry.provider.requirements and set(entry.provider.device_types) == {"CPU"}


def _place(order: Sequence[str], kind: str) -> int:
    return order.index(kind) if kind in order else len(order)


@cache
def _version() -> str:
    try:
        return metadata.version("cupola")
    except metadata.PackageNotFoundError:
        return "a source tree"


def _brought_by(entry: ProviderEntry) -> str:
    return f"{entry.distribution.name} {entry.distribution.version}" if entry.distribution else ""


@cache
def _system_start() -> str:
    """Name the system's present run: drivers come and go with it."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return str(round(psutil.boot_time() / 60))


def _read(path: Path) -> dict[str, Remembered]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Remembered])
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.MsgspecError) as error:
        logger.warning("What probes found before is lost: %s: %s", path, error)
        return {}


def _write(path: Path, remembered: dict[str, Remembered]) -> None:
    """Keep the reports for the next process. Without it they are found again."""
    try:
        replace_file(path, msgspec.json.encode(remembered))
    except OSError as error:
        logger.warning("What probes found cannot be kept: %s", error)

"""The execution providers of this machine and their devices, as far as they are known."""

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
from cupola.environments.environment import Environment, Environments, applicable_requirements
from cupola.environments.probes import probe
from cupola.files import replace_file
from cupola.plugins import ProviderEntry
from cupola.settings import Settings
from cupola.worker.launch import Interpreter, shared_modules
from cupola.worker.prober import Finding

logger = logging.getLogger(__name__)
_RETRY_S = 3600.0  # a provider without devices is probed again after this time

State = Literal["built in", "installed", "outdated", "not installed", "not for this machine"]


class StoredFinding(Struct, frozen=True):
    """The result of a probe. It is valid as long as the fingerprint of what was probed stays the same."""

    fingerprint: str
    found_at_unix: float
    finding: Finding


class Inventory:
    """The execution providers of this machine.

    A provider that runs in Cupola's own environment and only on the CPU needs no probe, so that users of the CPU never
    wait for one. The devices of the others are those that their probes found. The results are stored on disk until the
    environment, the plugin or its options change, or the system restarts.
    """

    def __init__(self, providers: Sequence[ProviderEntry], settings: Settings) -> None:
        self.providers = providers
        self._settings = settings
        self._environments = Environments(settings.environments_dir)
        self._path = settings.machine_dir / "probes.json"
        self._findings = _load_findings(self._path) if any(map(needs_probe, providers)) else {}
        self._probing = anyio.Lock()

    def state(self, entry: ProviderEntry) -> State:
        """Return whether a provider's environment is installed."""
        provider = entry.provider
        if not provider.requirements:
            return "built in"
        if environment := self.environment(entry):
            return "installed" if environment.satisfies(provider.requirements) else "outdated"
        try:
            return "not installed" if applicable_requirements(provider.requirements) else "not for this machine"
        except ValueError as error:
            logger.warning("The execution provider %s has a fault: %s", provider.name, error)
            return "not for this machine"

    def is_ready(self, entry: ProviderEntry) -> bool:
        """Return whether a provider's workers can start: it needs no environment, or its environment is up to date."""
        requirements, environment = entry.provider.requirements, self.environment(entry)
        return not requirements or bool(environment and environment.satisfies(requirements))

    def environment(self, entry: ProviderEntry) -> Environment | None:
        """Return a provider's own environment; None if it has none."""
        return self._environments.find(entry.provider.alias) if entry.provider.requirements else None

    def interpreter(self, entry: ProviderEntry) -> Interpreter:
        """Return the interpreter for a provider's workers: that of its environment, or the service's own."""
        environment = self.environment(entry)
        if environment is None:
            return Interpreter()
        return Interpreter(environment.python, shared_modules(entry.reference, entry.distribution))

    def devices(self) -> list[Device]:
        """List the known devices, by provider and in each provider's order of preference. Starts no probe."""
        return [device for entry in self.providers for device in self.devices_of(entry)]

    def devices_of(self, entry: ProviderEntry) -> Sequence[Device]:
        """List the known devices of one provider, in its order of preference. Starts no probe."""
        provider = entry.provider
        if not needs_probe(entry):
            return [Device(provider.name, kind) for kind in provider.device_types]
        if not self.is_ready(entry):
            return ()
        devices = finding.report.devices if (finding := self.finding(entry)) else ()
        return sorted(devices, key=lambda device: _rank(provider.device_types, device.type))

    def finding(self, entry: ProviderEntry) -> Finding | None:
        """Return the result of a provider's last probe; None if it must be probed again."""
        stored = self._findings.get(entry.provider.name)
        if stored is None or stored.fingerprint != self._fingerprint(entry):
            return None
        is_old = not 0 <= time.time() - stored.found_at_unix < _RETRY_S
        return None if is_old and not stored.finding.report.devices else stored.finding

    async def refresh(self, *, everything: bool = False) -> bool:
        """Probe the providers without a valid result, all at the same time. Cancellation ends the probes.

        Args:
            everything: Probe every provider, also those with a valid result and those that need no probe.

        Returns:
            Whether the devices changed.
        """
        async with self._probing:
            before = self.devices()
            ready = [entry for entry in self.providers if self.is_ready(entry)]
            unknown = [entry for entry in ready if everything or (needs_probe(entry) and not self.finding(entry))]
            async with anyio.create_task_group() as tasks:
                for entry in unknown:
                    tasks.start_soon(self._probe, entry)
            if unknown:
                _save_findings(self._path, self._findings)
            return self.devices() != before

    async def _probe(self, entry: ProviderEntry) -> None:
        fingerprint = self._fingerprint(entry)
        finding = await probe(entry, self._settings, self.interpreter(entry))
        if not finding.ran:
            logger.warning("The execution provider %s failed: %s", entry.provider.name, finding.report.problem)
        self._findings[entry.provider.name] = StoredFinding(fingerprint, time.time(), finding)

    def _fingerprint(self, entry: ProviderEntry) -> str:
        """Return a string that changes with everything that a probe's result depends on."""
        environment = self.environment(entry)
        packages = Path(sysconfig.get_path("purelib"))
        made = environment.record.made_at_unix if environment else packages.stat().st_mtime
        plugin = f"{entry.distribution.name} {entry.distribution.version}" if entry.distribution else ""
        parts = (_version(), plugin, entry.reference, made, platform.python_version(), _boot_id())
        return "|".join(map(str, (*parts, msgspec.json.encode(entry.options).decode())))


def needs_probe(entry: ProviderEntry) -> bool:
    """Return whether a provider must be probed for devices: it needs own packages or supports more than the CPU."""
    return bool(entry.provider.requirements) or set(entry.provider.device_types) != {"CPU"}


def _rank(order: Sequence[str], kind: str) -> int:
    return order.index(kind) if kind in order else len(order)


@cache
def _version() -> str:
    try:
        return metadata.version("cupola")
    except metadata.PackageNotFoundError:
        return "a source tree"


@cache
def _boot_id() -> str:
    """Return an identifier of the time since the last boot, because drivers may change at a boot."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return str(round(psutil.boot_time() / 60))


def _load_findings(path: Path) -> dict[str, StoredFinding]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, StoredFinding])
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.MsgspecError) as error:
        logger.warning("The stored probe results in %s cannot be read, so providers are probed again: %s", path, error)
        return {}


def _save_findings(path: Path, findings: dict[str, StoredFinding]) -> None:
    """Store the results for later processes. If that fails, later processes probe again."""
    try:
        replace_file(path, msgspec.json.encode(findings))
    except OSError as error:
        logger.warning("The probe results cannot be stored in %s: %s", path, error)

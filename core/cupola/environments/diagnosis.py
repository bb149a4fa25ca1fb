"""Whether an execution provider is usable on this machine, or why not and how to fix it."""

from typing import Literal

from msgspec import Struct

from cupola.contracts import Device
from cupola.environments.environment import applicable_requirements
from cupola.environments.inventory import Inventory, needs_probe
from cupola.plugins import ProviderEntry

Status = Literal["usable", "not installed", "outdated", "not for this machine", "no device", "broken", "not probed"]

_PROBLEMS = {
    "not installed": "Its packages are not installed.",
    "outdated": "Its environment was made for other versions of its packages.",
    "not for this machine": "There are no packages of it for this machine.",
    "not probed": "It was not probed for devices yet.",
}


class Diagnosis(Struct, frozen=True):
    """The state of an execution provider on this machine.

    Attributes:
        name, alias: "OpenVINOExecutionProvider" and "openvino".
        status: "no device" means that it runs but found no device; "broken" that its probe crashed, failed or did not
            end within the time limit.
        devices: The devices that it can use; at least one if it is usable.
        versions: The versions of its libraries, by name.
        packages: The requirements of its environment that apply to this machine.
        problem: Why it is not usable; "" if it is.
        remedy: The command or address that solves the problem; "" if there is none.
    """

    name: str
    alias: str
    status: Status
    devices: tuple[Device, ...] = ()
    versions: dict[str, str] = {}
    packages: tuple[str, ...] = ()
    problem: str = ""
    remedy: str = ""

    @property
    def message(self) -> str:
        """The problem and its remedy, for error messages; "" if the provider is usable."""
        if not self.problem:
            return ""
        remedy = f" Run `{self.remedy}`." if self.remedy.startswith("cupola ") else f" {self.remedy}".rstrip()
        return f"{self.alias}: {self.problem}{remedy}"


def diagnose(inventory: Inventory, entry: ProviderEntry) -> Diagnosis:
    """Return the state of a provider as far as it is known. Starts no probe; see `Inventory.refresh`."""
    provider, state = entry.provider, inventory.state(entry)
    packages = () if state == "not for this machine" else applicable_requirements(provider.requirements)
    finding = inventory.finding(entry)
    status: Status
    if state in ("not installed", "outdated", "not for this machine"):
        status, finding = state, None
    elif finding is None:
        status = "not probed" if needs_probe(entry) else "usable"
    elif not finding.ran:
        status = "broken"
    else:
        status = "usable" if finding.report.devices else "no device"
    report = finding.report if finding else None
    devices = report.devices if report else tuple(inventory.devices_of(entry))
    problem, remedy = "", ""
    if status != "usable":
        problem = (report.problem if report else "") or _PROBLEMS.get(status, "It found no device.")
        remedy = (report.remedy if report else "") or _remedy(status, entry)
    versions = report.versions if report else {}
    return Diagnosis(provider.name, provider.alias, status, devices, versions, packages, problem, remedy)


def _remedy(status: Status, entry: ProviderEntry) -> str:
    if status in ("not installed", "outdated"):
        return f"cupola provider install {entry.provider.alias}"
    return "cupola doctor" if status == "not probed" else entry.provider.prerequisites

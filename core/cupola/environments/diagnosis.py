"""Why a provider can be used here or not, and what mends it."""

from typing import Literal

from msgspec import Struct

from cupola.contracts import Device
from cupola.environments.environment import applying
from cupola.environments.inventory import Inventory, is_assumed
from cupola.plugins import ProviderEntry

Status = Literal["usable", "not installed", "outdated", "not for this machine", "no device", "broken", "not probed"]

_PROBLEMS = {
    "not installed": "Its packages are not installed.",
    "outdated": "Its environment was made for other versions of its packages.",
    "not for this machine": "There are no packages of it for this machine.",
    "not probed": "It was not asked for its devices yet.",
}


class Diagnosis(Struct, frozen=True):
    """What is known of a provider on this machine.

    Attributes:
        name, alias: "OpenVINOExecutionProvider" and "openvino".
        status: "no device" means that it runs and found none; "broken" that it crashed, hung or failed.
        devices: What it can use; of a provider that is usable at least one.
        versions: Of its libraries.
        packages: What its environment is made of, or would be.
        problem: A sentence; "" if it is usable.
        remedy: The one command or address that mends it; "" if nothing does.
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
    def sentence(self) -> str:
        """What is in the way, for an error; "" if nothing is."""
        if not self.problem:
            return ""
        mends = f" Run `{self.remedy}`." if self.remedy.startswith("cupola ") else f" {self.remedy}".rstrip()
        return f"{self.alias}: {self.problem}{mends}"


def diagnose(inventory: Inventory, entry: ProviderEntry) -> Diagnosis:
    """Say what is known of a provider. Starts nothing: see `Inventory.refresh`."""
    provider, state = entry.provider, inventory.state(entry)
    packages = () if state == "not for this machine" else applying(provider.requirements)
    finding = inventory.finding(entry)
    status: Status
    if state in ("not installed", "outdated", "not for this machine"):
        status, finding = state, None
    elif finding is None:
        status = "usable" if is_assumed(entry) else "not probed"
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

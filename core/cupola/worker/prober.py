"""The probing process: `python -m cupola.worker.prober PARENT_PID`.

Reads one `Probe` from standard input, has the provider look for its devices, and writes one `Finding` to standard
output, both as JSON. Drivers write to standard output as they like, so they get another one.
"""

import os
import sys
import traceback

import msgspec
from msgspec import Struct

from cupola.contracts import ProviderReport
from cupola.settings import Settings
from cupola.worker.child import die_with
from cupola.worker.plugin import import_provider


class Probe(Struct, frozen=True):
    """What to probe: the plugin's reference, the provider's name, and the service's settings as plain values."""

    plugin: str
    provider: str
    settings: dict[str, object]


class Finding(Struct, frozen=True):
    """What came of a probe. One that did not run to its end says why in the report's problem."""

    report: ProviderReport
    ran: bool = True


def main(argv: list[str]) -> None:
    """Probe and end. Ends at once, because drivers crash while they are torn down, too."""
    die_with(int(argv[0]))
    report_to = os.dup(1)
    os.dup2(2, 1)
    probe = msgspec.json.decode(sys.stdin.buffer.read(), type=Probe)
    content = msgspec.json.encode(_find(probe))
    while content:
        content = content[os.write(report_to, content) :]
    os._exit(0)


def _find(probe: Probe) -> Finding:
    try:
        provider = import_provider(probe.plugin, probe.provider, msgspec.convert(probe.settings, Settings))
        if provider is not None:
            return Finding(provider.probe())
        problem = f"the plugin {probe.plugin} no longer brings it"
    except Exception as error:  # noqa: BLE001 - a provider's fault is what the finding is for
        traceback.print_exc()
        problem = f"it cannot be probed: {type(error).__name__}: {error}"
    remedy = "reinstall the plugin that brings it"
    return Finding(ProviderReport(probe.provider, problem=problem, remedy=remedy), ran=False)


if __name__ == "__main__":
    main(sys.argv[1:])

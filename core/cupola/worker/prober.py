"""The probing process: `python -m cupola.worker.prober PARENT_PID`.

Reads a `Probe` from standard input, lets the provider detect its devices, and writes a `Finding` to standard output,
both as JSON. Drivers may print to standard output, so it is redirected for them.
"""

import os
import sys
import traceback

import msgspec
from msgspec import Struct

from cupola.contracts import ProviderReport
from cupola.settings import Settings
from cupola.worker.child import die_with, import_provider


class Probe(Struct, frozen=True):
    """What to probe: the plugin's import reference, the provider's name, and the settings as built-in types."""

    plugin: str
    provider: str
    settings: dict[str, object]


class Finding(Struct, frozen=True):
    """The result of a probe. If it did not run to its end, the report's problem tells why."""

    report: ProviderReport
    ran: bool = True


def main(argv: list[str]) -> None:
    """Probe and exit, without cleanup, because drivers may crash during cleanup."""
    die_with(int(argv[0]))
    report_to = os.dup(1)
    os.dup2(2, 1)
    probe = msgspec.json.decode(sys.stdin.buffer.read(), type=Probe)
    content = msgspec.json.encode(_run_probe(probe))
    while content:
        content = content[os.write(report_to, content) :]
    os._exit(0)


def _run_probe(probe: Probe) -> Finding:
    try:
        provider = import_provider(probe.plugin, probe.provider, msgspec.convert(probe.settings, Settings))
        if provider is not None:
            return Finding(provider.probe())
        problem = f"The plugin {probe.plugin} no longer contributes it."
    except Exception as error:  # noqa: BLE001 - the finding reports failures of providers
        traceback.print_exc()
        problem = f"Its probe failed: {type(error).__name__}: {error}."
    remedy = "Reinstall the plugin that contributes it."
    return Finding(ProviderReport(probe.provider, problem=problem, remedy=remedy), ran=False)


if __name__ == "__main__":
    main(sys.argv[1:])

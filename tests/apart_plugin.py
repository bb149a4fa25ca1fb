"""A plugin whose provider lives in an environment of its own: it echoes, with the help of a package only found there.

The requirements are what the environment variable APART_REQUIREMENTS holds, one a line.
"""

import os
import sys

from cupola import hookimpl
from cupola.frontend import Device
from cupola.provider import ExecutionProvider, ProviderReport


class Apart(ExecutionProvider):
    name = "ApartExecutionProvider"
    device_types = ("CPU",)
    requirements = tuple(os.environ.get("APART_REQUIREMENTS", "apart_driver==1.0").splitlines())
    prerequisites = "It wants a driver from its vendor."

    def probe(self):
        import apart_driver  # noqa: PLC0415

        return ProviderReport(
            self.name, (Device(self.name, "CPU", sys.prefix),), {"apart_driver": apart_driver.version()}
        )

    def load(self, model, device, options, limits):
        import apart_driver  # noqa: PLC0415

        from echo_plugin import EchoSession  # noqa: PLC0415

        assert apart_driver.version() == "1.0"
        session = EchoSession(1)
        session.reason = f"it runs in {sys.prefix}"
        return session


@hookimpl
def execution_providers(settings):
    return [Apart()]

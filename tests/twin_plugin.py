"""A second provider that echoes, on GPUs as well, for models that may run on either."""

from cupola import hookimpl
from cupola.frontend import Device
from cupola.provider import ProviderReport
from echo_plugin import EchoProvider


class TwinProvider(EchoProvider):
    name = "TwinExecutionProvider"
    device_types = ("CPU", "GPU")

    def probe(self):
        gpus = [Device(self.name, "GPU", f"twin {index}", index) for index in (0, 3)]
        return ProviderReport(self.name, (Device(self.name, "CPU", "twin"), *gpus))

    def load(self, model, device, options, limits):
        session = super().load(model, device, options, limits)
        session.reason = f"it echoes on {device.type} {device.index}"
        return session


@hookimpl
def execution_providers(settings):
    return [TwinProvider()]

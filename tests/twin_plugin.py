"""A second provider that echoes, on GPUs as well, for models that may run on either."""

import cupola
from cupola import Device, ProviderReport
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


@cupola.hookimpl
def execution_providers(settings):
    return [TwinProvider()]

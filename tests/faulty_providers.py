"""Providers as bad as drivers can be: what they do when they are probed is in their names.

The environment variable FAULTY_PROVIDERS chooses among them, by their short names.
"""

import ctypes
import os
import signal
import subprocess
import sys
import threading

from cupola import hookimpl
from cupola.errors import LoadError
from cupola.frontend import Device
from cupola.provider import ExecutionProvider, ProviderReport


class Fake(ExecutionProvider):
    device_types = ("NPU", "GPU")

    def load(self, model, device, options, limits):
        raise LoadError(model=model.id, detail="it is a fake")


class Fine(Fake):
    name = "FineExecutionProvider"

    def probe(self):
        print("drivers chatter")  # on standard output
        devices = (Device(self.name, "GPU", "one", memory_bytes=10**9), Device(self.name, "NPU", "two"))
        return ProviderReport(self.name, devices, {"driver": "1.2"})


class Bare(Fake):
    name = "BareExecutionProvider"

    def probe(self):
        return ProviderReport(self.name, problem="there is no accelerator", remedy="buy one")


class Crashing(Fake):
    name = "CrashingExecutionProvider"

    def probe(self):
        print("about to crash", file=sys.stderr, flush=True)
        ctypes.string_at(0)


class Hanging(Fake):
    name = "HangingExecutionProvider"

    def probe(self):
        subprocess.Popen(["sleep", "60.0471"])  # with a process of its own
        if hasattr(signal, "pthread_sigmask"):
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGINT])
        threading.Event().wait()


class Unimportable(Fake):
    name = "UnimportableExecutionProvider"

    def probe(self):
        import no_such_runtime  # noqa: PLC0415, F401


class Lying(Fake):
    name = "LyingExecutionProvider"

    def probe(self):
        os.write(1, b"{}")
        os._exit(0)


PROVIDERS = (Fine, Bare, Crashing, Hanging, Unimportable, Lying)


@hookimpl
def execution_providers(settings):
    wanted = os.environ.get("FAULTY_PROVIDERS", "").split()
    return [each() for each in PROVIDERS if not wanted or each().alias in wanted]

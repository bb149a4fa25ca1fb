"""The built-in providers by the author's kit. Those that want packages of their own are probed without them, too."""

import importlib

import pytest

from cupola.provider import Settings
from cupola.testing import ExecutionProviderSuite


def brought(module):
    (provider,) = importlib.import_module(module).execution_providers(Settings())
    return provider


class TestCpu(ExecutionProviderSuite):
    reference = "cupola_providers.cpu"

    @pytest.fixture
    def provider(self):
        return brought(self.reference)

    @pytest.fixture
    def model_path(self, starter_model_path):
        return starter_model_path


class Accelerator(ExecutionProviderSuite):
    @pytest.fixture
    def provider(self):
        return brought(self.reference)


class TestCuda(Accelerator):
    reference = "cupola_providers.cuda"


class TestDirectML(Accelerator):
    reference = "cupola_providers.directml"


class TestOpenVino(Accelerator):
    reference = "cupola_providers.openvino"


class TestQnn(Accelerator):
    reference = "cupola_providers.qnn"


class TestTensorRtRtx(Accelerator):
    reference = "cupola_providers.tensorrt_rtx"


class TestVitisAI(Accelerator):
    reference = "cupola_providers.vitisai"


class TestWebGpu(Accelerator):
    reference = "cupola_providers.webgpu"

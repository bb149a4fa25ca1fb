"""The end-to-end tests of chats once more, through OpenVINO on the processor, in the environment it is installed in.

OpenVINO's plugin offers devices of Intel alone. On another maker's processor the ONNX Runtime that was built with
OpenVINO stands in for it, which is of an older release and leaves the attention to the processor.
"""

import platform
import sys

import httpx
import pytest

from cupola_providers.cpu import processor_name
from e2e.conftest import Service
from e2e.test_chat import *  # noqa: F403 - the same tests
from provider_environments import built_in, installed

pytestmark = [
    pytest.mark.timeout(400),
    pytest.mark.skipif(
        (sys.platform, platform.machine()) != ("linux", "x86_64"), reason="OpenVINO's package for Linux is tested"
    ),
]
IS_INTELS = "Intel" in processor_name() if sys.platform == "linux" else False


@pytest.fixture(scope="module")
def service(starter_settings, tmp_path_factory):
    settings = installed("openvino") if IS_INTELS else built_in("openvino", "onnxruntime-openvino==1.24.1")
    variables = {"CUPOLA_MODELS_PROVIDER": "openvino", "CUPOLA_MACHINE_DIR": str(settings.machine_dir)}
    service = Service(starter_settings, tmp_path_factory.mktemp("service") / "log", **variables)
    yield service
    assert service.stop() == 0, service.log.read_text()


def test_openvino_takes_the_graph(service):
    httpx.post(f"{service.url}/cupola/load", json={"model": "smollm2-135m"}, timeout=60).raise_for_status()
    (loaded,) = httpx.get(f"{service.url}/cupola/ps").json()["models"]
    assert (loaded["provider"], loaded["fallback"]) == ("OpenVINOExecutionProvider", False)
    share = loaded["nodes"]["OpenVINOExecutionProvider"] / sum(loaded["nodes"].values())
    assert share == 1 if IS_INTELS else share > 0.8

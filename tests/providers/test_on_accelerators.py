"""Execution providers that run here: QNN's simulator of the NPU, and WebGPU on a processor that plays graphics."""

import json
import os
import platform
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import msgspec
import pytest

from cupola.environments import probe
from cupola.errors import FallbackError, WorkerError
from cupola.frontend import TokenPrompt
from cupola.messages import GenerateRequest
from cupola.protocol import Load
from cupola.provider import Sampling
from cupola.settings import ModelSettings
from cupola.worker.launch import Interpreter, shared_modules
from cupola.worker.process import WorkerSpec, open_worker
from cupola_plugins.gguf.files import Layout
from echo_specs import text_of
from provider_environments import built_in, entry_of, environment_of, installed
from tiny_model import write_tiny_model

SWIFTSHADER = Path("/usr/lib/chromium/libvk_swiftshader.so")
ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.timeout(400),
    pytest.mark.skipif(
        (sys.platform, platform.machine()) != ("linux", "x86_64"), reason="the simulators run on Linux on x86-64"
    ),
]


@asynccontextmanager
async def running(entry, settings, model, device, **environment):
    """A worker in the provider's environment."""
    load = Load(
        entry.reference,
        entry.provider.name,
        "tiny:1",
        str(model),
        device,
        0,
        msgspec.to_builtins(settings.for_workers()),
    )
    python = environment_of(entry.provider.alias, settings).python
    interpreter = Interpreter(python, shared_modules(entry.reference, entry.distribution))
    spec = WorkerSpec(load=load, interpreter=interpreter, environment=environment)
    async with open_worker(spec) as worker, anyio.create_task_group() as group:
        group.start_soon(worker.run)
        yield worker
        await worker.close(WorkerError(detail="the test is over"))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return write_tiny_model(tmp_path_factory.mktemp("tiny"), layout=Layout.INT4_BLOCKS)


@pytest.fixture(scope="module")
def qnn():
    return installed("qnn")


def test_a_quantised_graph_runs_on_the_simulated_npu_with_nothing_left_to_the_processor(qnn):
    python = environment_of("qnn", qnn).python
    paths = os.pathsep.join(str(ROOT / folder) for folder in ("core", "providers"))
    command = [python, str(HERE / "on_qnn.py")]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=100, env={**os.environ, "PYTHONPATH": paths}
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["device"] == "simulator of the NPU"
    assert told["nodes"] == {"QNNExecutionProvider": 6}
    assert told["largest"] > 0.5
    assert told["difference"] <= 0.05 + 1e-6  # one step of y's scale


async def test_a_language_model_that_qnn_would_leave_to_the_processor_is_refused_with_the_numbers(qnn, tiny):
    with pytest.raises((FallbackError, BaseExceptionGroup)) as caught:
        async with running(entry_of("qnn", qnn), qnn, tiny, "CPU"):
            pass
    error = caught.value
    while isinstance(error, BaseExceptionGroup):
        (error,) = error.exceptions
    assert (error.provider, error.taken < error.total / 2) == ("QNNExecutionProvider", True)
    assert f"can run {error.taken} of the {error.total} nodes" in str(error)


@pytest.fixture(scope="module")
def webgpu(tmp_path_factory):
    """WebGPU on SwiftShader, which Debian's chromium brings: settings, and the variables that choose it."""
    if not SWIFTSHADER.is_file():
        pytest.skip("SwiftShader is not installed; Debian's package chromium has it")
    icd = tmp_path_factory.mktemp("vulkan") / "swiftshader.json"
    icd.write_text(
        json.dumps({"file_format_version": "1.0.0", "ICD": {"library_path": str(SWIFTSHADER), "api_version": "1.0.5"}})
    )
    variables = {"VK_ICD_FILENAMES": str(icd), "LD_LIBRARY_PATH": str(SWIFTSHADER.parent)}
    return built_in("webgpu", "onnxruntime-webgpu==1.27.0"), variables


async def test_webgpu_answers_on_graphics_that_a_processor_plays(webgpu, tiny, monkeypatch):
    settings, variables = webgpu
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    entry = entry_of("webgpu", settings)
    python = environment_of("webgpu", settings).python
    finding = await probe(
        entry, settings, Interpreter(python, shared_modules(entry.reference, entry.distribution)), timeout_s=60
    )
    assert [device.type for device in finding.report.devices] == ["GPU"], finding
    settings = msgspec.structs.replace(settings, models=ModelSettings(min_provider_share=0.7))
    request = GenerateRequest(
        "tiny:1", TokenPrompt((20, 21, 22)), Sampling(temperature=0.0), max_tokens=8, ignore_eos=True
    )
    async with running(entry, settings, tiny, "GPU", **variables) as worker:
        assert worker.report.nodes["WebGpuExecutionProvider"] >= 20
        assert not worker.report.fallback
        text, finished = await text_of(await worker.submit(request))
        again, _ = await text_of(await worker.submit(request))
    assert finished.usage.completion_tokens == 8
    assert text == again

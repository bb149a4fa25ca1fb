"""Every accelerator's provider in an environment that lacks it: what it says, and how the libraries would be told."""

import importlib
import platform
import re
import subprocess
import sys
from pathlib import Path

import msgspec
import onnxruntime
import pytest
from packaging.requirements import Requirement

from cupola.errors import LoadError
from cupola.provider import Device, Limits, ModelFiles, Settings
from cupola_providers.runtime import devices
from cupola_providers.runtime.accelerator import LINUX_X64, PLATFORM_NAMES, WINDOWS_X64, format_options
from cupola_providers.runtime.loading import RuntimeSetup, open_session
from cupola_providers.runtime.target import Target
from tiny_model import write_tiny_model

MODULES = ("cuda", "directml", "openvino", "qnn", "tensorrt_rtx", "vitisai", "webgpu")
NAMES = {
    "cuda": ("CUDAExecutionProvider", "cuda"),
    "directml": ("DmlExecutionProvider", "DML"),
    "openvino": ("OpenVINOExecutionProvider", "OpenVINO"),
    "qnn": ("QNNExecutionProvider", "QNN"),
    "tensorrt-rtx": ("NvTensorRTRTXExecutionProvider", "NvTensorRtRtx"),
    "vitisai": ("VitisAIExecutionProvider", "VitisAI"),
    "webgpu": ("WebGpuExecutionProvider", "WebGPU"),
}


def provider_of(module):
    (provider,) = importlib.import_module(f"cupola_providers.{module}").execution_providers(Settings())
    return provider


def accelerator_of(module):
    module = importlib.import_module(f"cupola_providers.{module}")
    return next(value for value in vars(module).values() if type(value).__name__ == "Accelerator")


@pytest.fixture(params=MODULES)
def module(request):
    return request.param


@pytest.fixture
def provider(module):
    return provider_of(module)


@pytest.fixture
def here(monkeypatch):
    """Let this machine count as another one."""

    def pretend(system, machine):
        monkeypatch.setattr(sys, "platform", system)
        monkeypatch.setattr(platform, "machine", lambda: machine)

    return pretend


@pytest.fixture
def tiny(tmp_path):
    return ModelFiles("tiny:1", write_tiny_model(tmp_path / "tiny"))


def test_no_module_imports_a_runtime():
    imports = "; ".join(f"import cupola_providers.{name}" for name in MODULES)
    program = f"import sys; {imports}; print([m for m in sys.modules if m.startswith(('numpy', 'onnx'))])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_each_says_what_it_is_called_and_needs(provider, module):
    assert provider.alias == module.replace("_", "-")
    assert provider.name == accelerator_of(module).name == NAMES[provider.alias][0]
    assert accelerator_of(module).genai_name == NAMES[provider.alias][1]
    assert provider.device_types
    assert provider.prerequisites


def test_requirements_are_pinned_and_apply_just_where_the_provider_runs(provider, module):
    platforms = accelerator_of(module).platforms
    for text in provider.requirements:
        requirement = Requirement(text)
        assert [part.operator for part in requirement.specifier] == ["=="]
        for system, machine in PLATFORM_NAMES:
            applies = requirement.marker.evaluate({"sys_platform": system, "platform_machine": machine})
            assert applies == ((system, machine) in platforms)


def test_without_its_packages_a_probe_names_the_command_that_brings_them(provider, module, here):
    here(*accelerator_of(module).platforms[0])
    report = provider.probe()
    assert report.devices == ()
    assert report.problem == "Its packages are not installed."
    assert report.remedy == f"cupola provider install {provider.alias}"
    assert "onnxruntime" in report.versions


def test_on_another_platform_a_probe_says_for_which_it_is_made(provider, here):
    here("linux", "riscv64")
    report = provider.probe()
    assert report.problem.startswith("It supports ")
    assert report.problem.endswith("this machine runs linux on riscv64.")
    assert report.remedy.startswith("https://")


def test_a_runtime_that_cannot_be_imported_is_reported(provider, module, here, monkeypatch):
    here(*accelerator_of(module).platforms[0])
    monkeypatch.setitem(sys.modules, "onnxruntime_genai", None)
    report = provider.probe()
    assert report.problem.startswith("ONNX Runtime cannot be imported")
    assert report.remedy == f"cupola provider install {provider.alias}"


def test_a_library_in_the_settings_reaches_the_worker_and_is_missed_if_it_is_not_there(
    provider, module, here, monkeypatch
):
    here(*accelerator_of(module).platforms[0])
    options = msgspec.convert({"library": "/nowhere/lib.so"}, provider.options_type)
    ((variable, value),) = provider.environment(options).items()
    monkeypatch.setenv(variable, value)
    report = provider.probe()
    assert f"The library /nowhere/lib.so of providers.{provider.alias}.library does not exist." in report.problem
    assert provider.environment(provider.options_type()) == {}


def test_what_is_no_library_is_refused_with_the_libraries_reason(tmp_path, here, monkeypatch):
    here(*LINUX_X64)
    (tmp_path / "plugin.so").write_bytes(b"not a library")
    monkeypatch.setenv("EP_LIBRARY_OPENVINO", str(tmp_path / "plugin.so"))
    report = provider_of("openvino").probe()
    assert "Failed to load library" in report.problem
    assert report.remedy


@pytest.mark.parametrize(
    ("missing", "problem", "remedy"),
    [
        ("libcuda.so.1", "Its driver is missing (libcuda.so.1 was not found)", "https://www.nvidia.com/drivers"),
        ("libtensorrt_rtx.so.1", "The library libtensorrt_rtx.so.1 is missing", "cupola provider install tensorrt-rtx"),
    ],
)
def test_a_missing_driver_and_a_missing_library_are_told_apart(tmp_path, here, monkeypatch, missing, problem, remedy):
    package = tmp_path / "onnxruntime_ep_nv_tensorrt_rtx"
    package.mkdir()
    refusal = f"Failed to load library x.so with error: {missing}: cannot open shared object file: No such file"
    (package / "__init__.py").write_text(f"raise OSError({refusal!r})")
    monkeypatch.syspath_prepend(tmp_path)
    here(*LINUX_X64)
    report = provider_of("tensorrt_rtx").probe()
    assert report.problem.startswith(problem)
    assert report.remedy == remedy


def test_a_runtime_that_was_built_with_a_provider_that_cannot_run_is_refused_by_a_graph(here, monkeypatch):
    here(*LINUX_X64)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["WebGpuExecutionProvider"])
    with pytest.warns(UserWarning, match="not in available provider names"):
        report = provider_of("webgpu").probe()
    assert report.devices == ()
    assert report.problem


def test_loading_without_the_packages_says_what_mends_it(provider, module, here, tiny):
    here(*accelerator_of(module).platforms[0])
    device = Device(provider.name, provider.device_types[0])
    with pytest.raises(LoadError, match=f"Remedy: cupola provider install {provider.alias}"):
        provider.load(tiny, device, provider.options_type(), Limits())


@pytest.mark.parametrize("alias", NAMES)
def test_the_refusal_of_the_library_itself_becomes_a_sentence_with_the_command_that_mends_it(alias, tiny):
    name, genai_name = NAMES[alias]
    target = Target(provider=name, genai_name=genai_name, host_cache=False)
    command = "cuda" if alias == "tensorrt-rtx" else alias  # what both lack is onnxruntime-genai's part for CUDA
    with pytest.raises(LoadError, match=rf"ONNX Runtime rejected it: .*Run `cupola provider install {command}`\.$"):
        open_session(tiny, setup=RuntimeSetup(target=target), limits=Limits())


def test_an_option_that_does_not_exist_is_an_error_since_the_libraries_ignore_it(provider):
    with pytest.raises(msgspec.ValidationError, match="unknown field"):
        msgspec.convert({"devise_id": 1}, provider.options_type)


@pytest.mark.parametrize(
    ("module_", "options"),
    [
        ("cuda", {"device_id": -1}),
        ("cuda", {"arena_extend_strategy": 2}),
        ("directml", {"luid": "first"}),
        ("openvino", {"num_streams": 0}),
        ("openvino", {"precision": "INT3"}),
        ("qnn", {"htp_performance_mode": "fast"}),
        ("qnn", {"htp_graph_finalization_optimization_mode": 4}),
        ("tensorrt_rtx", {"nv_weight_streaming_budget": "half"}),
        ("tensorrt_rtx", {"nv_profile_min_shapes": "1x1"}),
        ("webgpu", {"validationMode": "some"}),
    ],
)
def test_options_out_of_range_are_refused(module_, options):
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(options, provider_of(module_).options_type)


def test_options_are_written_by_the_providers_own_keys_and_only_if_they_are_set():
    assert format_options(provider_of("webgpu").options_type()) == {}
    given = {"preferredLayout": "NCHW", "enableGraphCapture": True, "maxNumPendingDispatches": 8, "library": "x"}
    options = msgspec.convert(given, provider_of("webgpu").options_type)
    expected = {"preferredLayout": "NCHW", "enableGraphCapture": "1", "maxNumPendingDispatches": "8"}
    assert format_options(options) == expected
    options = msgspec.convert({"enable_causallm": True}, provider_of("openvino").options_type)
    assert format_options(options, format_bool=str) == {"enable_causallm": "True", "hint_enable_gqa": "True"}
    options = msgspec.convert({"nv_op_types_to_exclude": ["Conv", "Relu"]}, provider_of("tensorrt_rtx").options_type)
    assert format_options(options) == {"nv_op_types_to_exclude": "Conv,Relu"}
    options = msgspec.convert({"external_ep_libray": "amd.dll"}, provider_of("vitisai").options_type)
    assert format_options(options) == {"external_ep_libray": "amd.dll"}


class Recorder:
    """Takes down what a configuration of onnxruntime-genai is told."""

    def __init__(self):
        self.told = []

    def __getattr__(self, name):
        return lambda *words: self.told.append((name, *words))


@pytest.mark.parametrize(
    ("module_", "options", "told", "native"),
    [
        ("cuda", {"arena_extend_strategy": 1, "max_mem": 5}, {"arena_extend_strategy": "1", "max_mem": "5"}, None),
        ("directml", {"enable_graph_capture": False}, {"device_index": "0", "enable_graph_capture": "0"}, None),
        ("directml", {"luid": "0:51"}, {"luid": "0:51"}, None),
    ],
)
def test_a_built_in_provider_is_told_its_device_by_option(monkeypatch, here, tiny, module_, options, told, native):
    """Up to the point where only the hardware is missing: what opens the model is looked at instead."""
    provider = provider_of(module_)
    found = [devices.FoundDevice(Device(provider.name, "GPU", "some"), options={})]
    opened = []
    monkeypatch.setattr("cupola_providers.runtime.loading.find_devices", lambda accelerator: found)
    monkeypatch.setattr(
        "cupola_providers.runtime.loading.open_session", lambda model, *, setup, limits: opened.append(setup.target)
    )
    here(*WINDOWS_X64)
    provider.load(tiny, found[0].device, msgspec.convert(options, provider.options_type), Limits())
    recorder = Recorder()
    opened[0].apply_to(recorder)
    name = NAMES[provider.alias][1]
    assert recorder.told[:2] == [("clear_providers",), ("append_provider", name)]
    written_options = {key: value for call, _, key, value in recorder.told[2:] if call == "set_provider_option"}
    assert told.items() <= written_options.items()
    if module_ == "cuda":
        assert opened[0].native_options == {"device_id": "0", "arena_extend_strategy": "kSameAsRequested"}


def test_a_device_that_is_not_there_is_named_with_those_that_are(monkeypatch, tiny):
    provider = provider_of("cuda")
    found = [devices.FoundDevice(Device(provider.name, "GPU", "some card"))]
    monkeypatch.setattr("cupola_providers.runtime.loading.find_devices", lambda accelerator: found)
    with pytest.raises(LoadError, match=r"has no GPU 1 on this machine. Available: GPU 0 \(some card\)"):
        provider.load(tiny, Device(provider.name, "GPU", index=1), provider.options_type(), Limits())


def test_the_documentation_names_every_option_and_every_package(module, provider):
    text = (Path(__file__).parents[2] / "docs" / "providers.md").read_text("utf-8")
    (row,) = [line for line in text.splitlines() if line.startswith(f"| `[providers.{provider.alias}]`")]
    documented = re.findall(r"`(\w+)`", row.partition("]`")[2])
    assert set(documented) == {one.encode_name for one in msgspec.structs.fields(provider.options_type)}
    (row,) = [line for line in text.splitlines() if line.startswith(f"| `{provider.alias}` |")]
    runtime = {"onnxruntime", "onnxruntime-genai"}
    for requirement in map(Requirement, provider.requirements):
        (pin,) = requirement.specifier
        assert (
            requirement.name in runtime
            or re.search(rf"`{requirement.name}` {re.escape(pin.version)}", row)
            or (provider.alias == "tensorrt-rtx" and requirement.name == "onnxruntime-gpu")
        )

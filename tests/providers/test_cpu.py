import subprocess
import sys

import msgspec
import psutil
import pytest

from cupola.provider import Device, Limits, ModelFiles, Settings, Turn
from cupola.testing.sessions import run_turn
from cupola_providers.cpu import CpuOptions, CpuProvider, execution_providers, usable_cores
from tiny_model import write_tiny_model

CPU = Device("CPUExecutionProvider", "CPU")


def test_the_module_imports_no_runtime():
    program = "import sys, cupola_providers.cpu; print([m for m in sys.modules if m.startswith(('numpy', 'onnx'))])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_the_plugin_brings_the_cpu():
    (provider,) = execution_providers(Settings())
    assert (provider.name, provider.alias, provider.device_types) == ("CPUExecutionProvider", "cpu", ("CPU",))


@pytest.mark.parametrize(
    "options", [{"threads": -1}, {"threads": 5000}, {"spinning": 1}, {"thread": 2}, {"session": "paged"}]
)
def test_options_out_of_range_and_unknown_ones_are_refused(options):
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(options, CpuOptions)


def test_the_processor_is_reported():
    report = CpuProvider().probe()
    (device,) = report.devices
    assert device.provider == "CPUExecutionProvider"
    assert device.name
    assert device.memory_bytes == psutil.virtual_memory().total
    assert set(report.versions) == {"onnxruntime", "onnxruntime-genai"}
    assert not report.problem


def test_a_runtime_that_cannot_be_imported_is_a_problem_with_a_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime_genai", None)
    report = CpuProvider().probe()
    assert report.devices == ()
    assert "cannot be imported" in report.problem
    assert "-m pip install" in report.remedy


@pytest.mark.skipif(sys.platform != "linux", reason="glibc is Linux's")
def test_switches_are_set_for_workers_unless_the_user_has_set_them(monkeypatch):
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    monkeypatch.delenv("ORT_GQA_DISABLE_FLASH_ATTENTION", raising=False)
    expected = {"ORT_GQA_DISABLE_FLASH_ATTENTION": "1", "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
    assert CpuProvider().environment(CpuOptions()) == expected
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.arena_max=2")
    monkeypatch.setenv("ORT_GQA_DISABLE_FLASH_ATTENTION", "0")
    assert CpuProvider().environment(CpuOptions()) == {}


def test_elsewhere_nothing_is_said_about_glibc(monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    assert "GLIBC_TUNABLES" not in CpuProvider().environment(CpuOptions())


def test_threads_are_the_physical_cores_this_process_may_use(monkeypatch):
    monkeypatch.setattr(psutil, "cpu_count", lambda logical=True: 16 if logical else 8)
    monkeypatch.setattr(psutil.Process, "cpu_affinity", lambda self: list(range(12)), raising=False)
    assert usable_cores() == 8
    monkeypatch.setattr(psutil.Process, "cpu_affinity", lambda self: [3], raising=False)
    assert usable_cores() == 1
    monkeypatch.setattr(psutil, "cpu_count", lambda logical=True: None)
    assert usable_cores() == 1


def test_a_model_runs_with_the_threads_asked_for(tmp_path):
    files = ModelFiles("tiny:1", write_tiny_model(tmp_path))
    session = CpuProvider().load(files, CPU, CpuOptions(threads=2), Limits())
    assert session.threads == 2
    assert run_turn(session, Turn(1, [20, 21], 3, ignore_eos=True)).finish == "length"


def test_threads_default_to_the_cores(tmp_path):
    files = ModelFiles("tiny:1", write_tiny_model(tmp_path))
    assert CpuProvider().load(files, CPU, CpuOptions(), Limits()).threads == usable_cores()


def test_the_kind_of_session_and_its_memory_are_options(tmp_path):
    files = ModelFiles("tiny:1", write_tiny_model(tmp_path))
    assert CpuProvider().load(files, CPU, CpuOptions(), Limits()).kind == "slots"
    assert CpuProvider().load(files, CPU, CpuOptions(session="generator"), Limits()).kind == "generator"
    session = CpuProvider().load(files, CPU, CpuOptions(session="slots", kv_memory_mb=1), Limits())
    assert session.capacity * session.context_length * 512 <= 1_000_000

import os
import subprocess
import sys
import time

import pytest

from cupola_server.bench.machine import EnergyCounter, MemoryProbe, Meter, peak_bytes

BURN = """import time, sys
print(1, flush=True)
end = time.process_time() + 0.4
while time.process_time() < end: pass
print(2, flush=True)
sys.stdin.read()
"""


def burner():
    process = subprocess.Popen([sys.executable, "-c", BURN], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    process.stdout.readline()
    return process


def test_processor_time_of_a_target_is_separate_from_that_of_others():
    with burner() as own, burner() as other:
        meter = Meter([own.pid], clients=[os.getpid()])
        own.stdout.readline(), other.stdout.readline()
        meter.stop()
        own.stdin.close(), other.stdin.close()
    assert 0.2 < meter.cpu_s < 0.8
    assert meter.others_cores * meter.wall_s > 0.1


def test_processor_time_of_clients_counts_neither_as_the_target_nor_as_others():
    meter = Meter([], clients=[os.getpid()])
    end = time.process_time() + 0.3
    while time.process_time() < end:
        pass
    meter.stop()
    as_target = Meter([], processes=[os.getpid()], clients=[os.getpid()])
    end = time.process_time() + 0.1
    while time.process_time() < end:
        pass
    as_target.stop()
    assert meter.cpu_s == 0
    assert as_target.cpu_s >= 0.08


@pytest.mark.skipif(sys.platform != "linux", reason="psutil reports ended children on Linux only")
def test_processor_time_of_ended_descendants_counts_as_the_target():
    meter = Meter([os.getpid()])
    with burner() as child:
        child.stdout.readline()
        child.stdin.close()
    meter.stop()
    assert 0.35 < meter.cpu_s < 1.5
    assert meter.others_cores * meter.wall_s < 0.3


def test_an_ended_process_uses_nothing():
    done = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    meter = Meter([int(done.stdout)])
    meter.stop()
    assert meter.cpu_s == 0
    assert peak_bytes([int(done.stdout)]) == 0


def test_the_peak_includes_descendants_of_process_trees_only():
    with burner() as child:
        alone = peak_bytes([], [os.getpid()])
        assert alone > 10_000_000
        assert peak_bytes([os.getpid()]) > alone + 3_000_000
        child.stdin.close()


def test_energy_is_the_sum_over_the_packages(tmp_path):
    for name, micro in [("intel-rapl:0", 5_000_000), ("intel-rapl:1", 2_500_000), ("intel-rapl:0:0", 9_000_000)]:
        (tmp_path / name).mkdir()
        (tmp_path / name / "energy_uj").write_text(f"{micro}\n")
    energy = EnergyCounter(tmp_path)
    assert (energy.read_j(), energy.problem) == (7.5, "")
    meter = Meter([], energy=energy)
    (tmp_path / "intel-rapl:0" / "energy_uj").write_text("6000000\n")
    meter.stop()
    assert meter.energy_j == 1.0


def test_a_machine_without_energy_counters_reports_the_problem(tmp_path):
    energy = EnergyCounter(tmp_path / "missing")
    assert energy.read_j() is None
    assert "no energy counters" in energy.problem
    meter = Meter([], energy=energy)
    meter.stop()
    assert meter.energy_j is None


def test_a_counter_that_wrapped_around_gives_no_energy(tmp_path):
    (tmp_path / "intel-rapl:0").mkdir()
    counter = tmp_path / "intel-rapl:0" / "energy_uj"
    counter.write_text("9000000")
    meter = Meter([], energy=EnergyCounter(tmp_path))
    counter.write_text("1000000")
    meter.stop()
    assert meter.energy_j is None


def probe(*times):
    """Make a probe with these reading times, three reads each; the last one repeats."""
    left = [time for time in times for _ in range(3)]
    return MemoryProbe(lambda: left.pop(0) if len(left) > 1 else left[0], calm_s=0.0)


@pytest.mark.anyio
async def test_slowness_is_relative_to_the_best_recent_time():
    memory = probe(0.003, 0.004, 0.002, 0.003)
    assert [round(await memory.measure_slowness(), 3) for _ in range(4)] == [1.0, 1.333, 1.0, 1.5]


@pytest.mark.anyio
async def test_waiting_ends_when_memory_is_fast_again():
    memory = probe(0.002, 0.004, 0.004, 0.0022)
    await memory.measure_slowness()
    await memory.measure_slowness()
    assert await memory.wait_until_fast(1.15, 5.0) == pytest.approx(1.1)


@pytest.mark.anyio
async def test_waiting_ends_at_the_timeout_with_the_current_slowness():
    memory = probe(0.002, 0.004)
    await memory.measure_slowness()
    await memory.measure_slowness()
    assert await memory.wait_until_fast(1.15, 0.05) == pytest.approx(2.0)


@pytest.mark.anyio
async def test_a_probe_of_real_memory_takes_milliseconds():
    memory = MemoryProbe(calm_s=0.0)
    assert await memory.measure_slowness() == 1.0
    assert 0.0005 < memory._recent[0][1] < 1.0

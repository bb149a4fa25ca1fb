import os
import subprocess
import sys
import time

import pytest

from cupola_server.bench.machine import Energy, MemoryPace, Meter, peak_bytes

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


def test_what_a_target_uses_is_its_own_and_what_another_uses_is_noise():
    with burner() as own, burner() as other:
        meter = Meter([own.pid], clients=[os.getpid()])
        own.stdout.readline(), other.stdout.readline()
        meter.stop()
        own.stdin.close(), other.stdin.close()
    assert 0.2 < meter.cpu_s < 0.8
    assert meter.others_cores * meter.wall_s > 0.1


def test_a_process_that_only_asks_is_no_noise_and_no_cost():
    meter = Meter([], clients=[os.getpid()])
    end = time.process_time() + 0.3
    while time.process_time() < end:
        pass
    meter.stop()
    as_target = Meter([], alone=[os.getpid()], clients=[os.getpid()])
    end = time.process_time() + 0.1
    while time.process_time() < end:
        pass
    as_target.stop()
    assert meter.cpu_s == 0
    assert as_target.cpu_s >= 0.08


@pytest.mark.skipif(sys.platform != "linux", reason="psutil tells of ended children on Linux alone")
def test_what_ended_meanwhile_below_a_root_was_its_own_and_no_noise():
    meter = Meter([os.getpid()])
    with burner() as child:
        child.stdout.readline()
        child.stdin.close()
    meter.stop()
    assert 0.35 < meter.cpu_s < 1.5
    assert meter.others_cores * meter.wall_s < 0.3


def test_a_process_that_has_gone_uses_nothing():
    done = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    meter = Meter([int(done.stdout)])
    meter.stop()
    assert meter.cpu_s == 0
    assert peak_bytes([int(done.stdout)]) == 0


def test_the_peak_counts_what_is_below_a_root_but_not_below_one_alone():
    with burner() as child:
        alone = peak_bytes([], [os.getpid()])
        assert alone > 10_000_000
        assert peak_bytes([os.getpid()]) > alone + 3_000_000
        child.stdin.close()


def test_energy_is_the_sum_of_the_packages(tmp_path):
    for name, micro in [("intel-rapl:0", 5_000_000), ("intel-rapl:1", 2_500_000), ("intel-rapl:0:0", 9_000_000)]:
        (tmp_path / name).mkdir()
        (tmp_path / name / "energy_uj").write_text(f"{micro}\n")
    energy = Energy(tmp_path)
    assert (energy.joules(), energy.problem) == (7.5, "")
    meter = Meter([], energy=energy)
    (tmp_path / "intel-rapl:0" / "energy_uj").write_text("6000000\n")
    meter.stop()
    assert meter.energy_j == 1.0


def test_a_machine_without_counters_says_so(tmp_path):
    energy = Energy(tmp_path / "missing")
    assert energy.joules() is None
    assert "no energy counters" in energy.problem
    meter = Meter([], energy=energy)
    meter.stop()
    assert meter.energy_j is None


def test_a_counter_that_ran_over_gives_no_energy(tmp_path):
    (tmp_path / "intel-rapl:0").mkdir()
    counter = tmp_path / "intel-rapl:0" / "energy_uj"
    counter.write_text("9000000")
    meter = Meter([], energy=Energy(tmp_path))
    counter.write_text("1000000")
    meter.stop()
    assert meter.energy_j is None


def pace(*times):
    """Read as fast as told, three times each, and then as fast as at last."""
    left = [time for time in times for _ in range(3)]
    return MemoryPace(lambda: left.pop(0) if len(left) > 1 else left[0], calm_s=0.0)


@pytest.mark.anyio
async def test_memory_is_as_slow_as_beside_its_best_of_late():
    found = pace(0.003, 0.004, 0.002, 0.003)
    assert [round(await found.slowness(), 3) for _ in range(4)] == [1.0, 1.333, 1.0, 1.5]


@pytest.mark.anyio
async def test_settling_waits_until_it_is_fast_again():
    found = pace(0.002, 0.004, 0.004, 0.0022)
    await found.slowness()
    await found.slowness()
    assert await found.settle(1.15, 5.0) == pytest.approx(1.1)


@pytest.mark.anyio
async def test_settling_has_an_end_and_tells_how_slow_it_is_then():
    found = pace(0.002, 0.004)
    await found.slowness()
    await found.slowness()
    assert await found.settle(1.15, 0.05) == pytest.approx(2.0)


@pytest.mark.anyio
async def test_real_memory_is_read_in_milliseconds():
    found = MemoryPace(calm_s=0.0)
    assert await found.slowness() == 1.0
    assert 0.0005 < found._lately[0][1] < 1.0

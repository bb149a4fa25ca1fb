import pytest

from cupola_server.bench.memory import MemoryPace

pytestmark = pytest.mark.anyio


def pace(*times):
    """Read as fast as told, three times each, and then as fast as at last."""
    left = [time for time in times for _ in range(3)]
    return MemoryPace(lambda: left.pop(0) if len(left) > 1 else left[0], calm_s=0.0)


async def test_memory_is_as_slow_as_beside_its_best_of_late():
    found = pace(0.003, 0.004, 0.002, 0.003)
    assert [round(await found.slowness(), 3) for _ in range(4)] == [1.0, 1.333, 1.0, 1.5]


async def test_settling_waits_until_it_is_fast_again():
    found = pace(0.002, 0.004, 0.004, 0.0022)
    await found.slowness()
    await found.slowness()
    assert await found.settle(1.15, 5.0) == pytest.approx(1.1)


async def test_settling_has_an_end_and_tells_how_slow_it_is_then():
    found = pace(0.002, 0.004)
    await found.slowness()
    await found.slowness()
    assert await found.settle(1.15, 0.05) == pytest.approx(2.0)


async def test_real_memory_is_read_in_milliseconds():
    found = MemoryPace(calm_s=0.0)
    assert await found.slowness() == 1.0
    assert 0.0005 < found._lately[0][1] < 1.0

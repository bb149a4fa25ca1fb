import pytest
from hypothesis import given
from hypothesis import strategies as st

from cupola_server.bench.fitting import fit

XS = (64, 128, 256, 512, 1024, 2048, 4096, 8192)
exponents = st.floats(-2, 2)


@given(exponents, st.floats(0.01, 100))
def test_a_power_law_is_found_and_does_not_bend(exponent, factor):
    growth = fit([(x, factor * x**exponent) for x in XS])
    assert growth.exponent == pytest.approx(exponent, abs=1e-6)


def test_a_bend_is_found_where_it_is():
    points = [(x, float(x) if x <= 1024 else 1024 * (x / 1024) ** 2) for x in XS]
    growth = fit(points)
    assert (growth.exponent, growth.exponent_after) == (pytest.approx(1), pytest.approx(2))
    assert growth.bends_at == 1024


def test_noise_alone_is_no_bend():
    noise = (1.02, 0.97, 1.01, 1.03, 0.98, 1.0, 1.02, 0.99)
    assert fit([(x, x * factor) for x, factor in zip(XS, noise, strict=True)]).bends_at is None


def test_few_points_have_a_slope_and_one_has_none():
    assert fit([(1, 5), (10, 50)]).exponent == pytest.approx(1)
    assert fit([(1, 5)]).exponent == 0

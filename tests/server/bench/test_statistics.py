import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cupola_server.bench.statistics import Figure, Histogram, fit_power_law, format_number

times = st.lists(st.floats(1e-5, 100), min_size=1, max_size=50)


def test_a_figure_has_its_median_and_the_interval_of_a_second_run():
    figure = Figure("ms", (10.0, 10.2, 9.9, 10.1, 9.8))
    assert figure.median == 10.0
    # t for 4 degrees of freedom, times the root of 2, times 1.2533 standard errors of the mean
    assert figure.spread == pytest.approx(2.776 * 2**0.5 * 1.2533 * 0.0158 / 5**0.5, rel=0.02)
    assert str(figure) == "10.0 ms (9.66 to 10.4)"


def test_the_interval_is_wide_for_two_rounds_and_empty_for_one():
    assert Figure("ms", (10.0, 10.1)).spread > 0.1
    once = Figure("ms", (10.0,))
    assert (once.low, once.high, once.spread) == (10.0, 10.0, 0.0)


@pytest.mark.parametrize("rounds", [3, 5, 9, 25])
def test_19_of_20_second_runs_lie_within_the_spread(rounds):
    draw = random.Random(rounds)

    def run():
        return Figure("ms", tuple(draw.lognormvariate(3, 0.08) for _ in range(rounds)))

    pairs = [(run(), run()) for _ in range(1500)]
    inside = sum(first.low <= second.median <= first.high for first, second in pairs)
    assert inside / len(pairs) == pytest.approx(0.95, abs=0.025)


def test_19_of_20_percentiles_of_second_runs_lie_within_the_spread():
    draw = random.Random(5)

    def run(rounds=9):
        speeds = [draw.lognormvariate(0, 0.05) for _ in range(rounds)]
        times = [[0.02 * speed * draw.lognormvariate(0, 0.3) for _ in range(100)] for speed in speeds]
        return Figure.from_histograms("ms", [Histogram.from_times(round_times) for round_times in times], 0.95)

    pairs = [(run(), run()) for _ in range(200)]
    inside = sum(first.low <= second.median <= first.high for first, second in pairs)
    assert inside / len(pairs) >= 0.92


def test_a_percentile_is_over_the_times_of_all_rounds():
    fast, slow = Histogram.from_times([0.010] * 60), Histogram.from_times([0.020] * 40)
    figure = Figure.from_histograms("ms", [fast, slow], 0.5)
    assert figure.median == pytest.approx(10, rel=0.02)
    assert Figure.from_histograms("ms", [fast, slow], 0.95).median == pytest.approx(20, rel=0.02)
    assert Figure.from_histograms("ms", [fast, fast, fast], 0.5).spread == pytest.approx(0.02)  # a class is that wide
    assert figure == Figure.from_histograms("ms", [fast, slow], 0.5)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.012345, "0.0123"), (4.5678, "4.57"), (78.9, "78.9"), (12345.6, "12,346"), (-2, "-2.00")],
)
def test_numbers_have_three_significant_digits(value, text):
    assert format_number(value) == text


@given(times, st.sampled_from([0.05, 0.5, 0.95, 0.99, 1.0]))
def test_a_quantile_is_within_two_percent_of_the_true_one(values, share):
    ordered = sorted(values)
    index = next(n for n in range(len(ordered)) if (n + 1) >= share * len(ordered))
    assert Histogram.from_times(values).quantile_ms(share) == pytest.approx(1000 * ordered[index], rel=0.021)


@given(times, times)
def test_the_sum_of_two_histograms_is_the_histogram_of_all_times(first, second):
    assert (Histogram.from_times(first) + Histogram.from_times(second)).counts == Histogram.from_times(
        first + second
    ).counts


def test_a_quantile_of_no_times_is_zero():
    assert Histogram().quantile_ms(0.5) == 0.0


XS = (64, 128, 256, 512, 1024, 2048, 4096, 8192)
exponents = st.floats(-2, 2)


@given(exponents, st.floats(0.01, 100))
def test_a_power_law_is_fitted_without_a_bend(exponent, factor):
    growth = fit_power_law([(x, factor * x**exponent) for x in XS])
    assert growth.exponent == pytest.approx(exponent, abs=1e-6)


def test_a_bend_is_fitted_at_its_position():
    points = [(x, float(x) if x <= 1024 else 1024 * (x / 1024) ** 2) for x in XS]
    growth = fit_power_law(points)
    assert (growth.exponent, growth.exponent_after) == (pytest.approx(1), pytest.approx(2))
    assert growth.bends_at == 1024


def test_noise_alone_is_not_fitted_as_a_bend():
    noise = (1.02, 0.97, 1.01, 1.03, 0.98, 1.0, 1.02, 0.99)
    assert fit_power_law([(x, x * factor) for x, factor in zip(XS, noise, strict=True)]).bends_at is None


def test_two_points_have_a_slope_and_one_has_none():
    assert fit_power_law([(1, 5), (10, 50)]).exponent == pytest.approx(1)
    assert fit_power_law([(1, 5)]).exponent == 0

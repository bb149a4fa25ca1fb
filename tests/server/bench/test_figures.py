import pytest
from hypothesis import given
from hypothesis import strategies as st

from cupola_server.bench.figures import Figure, Histogram, number

times = st.lists(st.floats(1e-5, 100), min_size=1, max_size=50)


def test_a_figure_quotes_its_median_and_the_farthest_round():
    figure = Figure("ms", (10.0, 12.0, 9.0))
    assert (figure.median, figure.low, figure.high) == (10.0, 9.0, 12.0)
    assert figure.spread == pytest.approx(0.2)
    assert str(figure) == "10.0 ms (9.00 to 12.0)"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.012345, "0.0123"), (4.5678, "4.57"), (78.9, "78.9"), (12345.6, "12,346"), (-2, "-2.00")],
)
def test_numbers_have_three_digits_that_count(value, text):
    assert number(value) == text


@given(times, st.sampled_from([0.05, 0.5, 0.95, 0.99, 1.0]))
def test_a_quantile_is_within_two_percent_of_the_true_one(values, share):
    ordered = sorted(values)
    index = next(n for n in range(len(ordered)) if (n + 1) >= share * len(ordered))
    assert Histogram.of(values).quantile_ms(share) == pytest.approx(1000 * ordered[index], rel=0.021)


@given(times, times)
def test_two_histograms_add_up_to_that_of_all_times(first, second):
    assert (Histogram.of(first) + Histogram.of(second)).counts == Histogram.of(first + second).counts


def test_no_times_have_no_quantiles():
    assert Histogram().quantile_ms(0.5) == 0.0

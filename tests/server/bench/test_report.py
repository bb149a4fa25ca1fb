"""The same result as a table, as Markdown and as a page."""

import re
from html.parser import HTMLParser

import pytest
from msgspec import structs

from cupola_server.bench import comparison
from cupola_server.bench.charts import log_ticks
from cupola_server.bench.markdown import markdown, show
from cupola_server.bench.page import page
from cupola_server.bench.report import growth_text
from cupola_server.bench.results import Curve
from server.bench.findings import cell, result, target

VOID = {"meta", "br"}


class Strict(HTMLParser):
    """Remembers tags that are open, addresses, and text."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.addresses, self.text = [], set(), [], ""

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.addresses += [value for name, value in attrs if name in {"href", "src", "action", "xlink:href"}]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.add(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def parsed(html):
    parser = Strict()
    parser.feed(html)
    parser.close()
    assert parser.open == []
    return parser


def test_a_page_is_whole_by_itself_and_escapes_what_it_shows():
    html = page(result())
    found = parsed(html)
    assert found.addresses == []
    assert not {"script", "link", "img", "iframe"} & found.tags
    assert "@import" not in html
    assert "url(" not in html
    assert "A <fast> one" in found.text
    assert "it cannot be <installed>" in found.text
    assert {"svg", "polyline", "circle", "table"} <= found.tags


def test_a_page_shows_every_chart_that_there_are_figures_for():
    text = parsed(page(result())).text
    for title in (
        "All answers together",
        "To the first token",
        "Between tokens",
        "Speed against quality",
        "How it grows",
    ):
        assert title in text


def test_a_page_of_a_result_with_nothing_measured_is_a_page_as_well():
    empty = structs.replace(result(), targets=(), curves=())
    assert "it cannot be <installed>" in parsed(page(empty)).text


def test_a_page_knows_dark_and_paper():
    html = page(result())
    assert "prefers-color-scheme:dark" in html
    assert "@media print" in html
    assert 'name="viewport"' in html


@pytest.mark.parametrize(
    ("bottom", "top", "ticks"),
    [(20, 12_000, [100, 1000, 10_000]), (2, 60, [2, 5, 10, 20, 50]), (3.0, 6.5, [3, 4, 5, 6]), (5.1, 5.3, [5.1, 5.3])],
)
def test_a_logarithmic_axis_has_round_numbers(bottom, top, ticks):
    assert log_ticks(bottom, top) == pytest.approx(ticks)


def test_markdown_has_a_line_a_target_with_medians_and_spread():
    text = markdown(result())
    assert "| Cupola in-process | 100 ±5% |" in text
    assert "| Cupola http | 90.0 ±5% |" in text
    assert "Not measured: other. it cannot be <installed>" in text


def test_a_spread_that_says_nothing_is_written_as_such():
    wild = cell("decode", 1, 64, [{"decode_per_s": each} for each in (10.0, 50.0, 300.0)])
    assert "50.0 ±>100%" in markdown(structs.replace(result(), targets=(target("a", 1.0, cells=(wild,)),)))


def test_speeds_are_compared_with_our_service_round_by_round():
    text = markdown(result())
    assert "**Speed, as a multiple of Cupola http**" in text
    assert "| Cupola in-process | 1.11 ±0% |" in text
    assert "| Cupola http | 1.00 ±0% |" in text
    assert "as a multiple" not in markdown(structs.replace(result(), targets=result().targets[:1]))


def test_a_table_shows_the_same(capsys):
    show(result())
    shown = capsys.readouterr().out
    assert "Cupola in-process" in shown
    assert "100 ±5%" in re.sub(r"\s+", " ", shown)


def test_what_others_disturbed_is_marked_and_counted():
    noisy = cell("decode", 1, 64, [{"decode_per_s": 50.0}] * 3, noisy=True)
    text = markdown(structs.replace(result(), targets=(target("a", 1.0, cells=(noisy,)),)))
    assert "~50.0" in text
    assert "In 3 of 3 samples others used more than 0.1 cores, or memory was more than 1.15 times slower" in text


def test_answers_that_ended_early_are_told():
    short = cell("decode", 1, 64, [{"decode_per_s": 50.0}] * 2, got=0.5)
    text = markdown(structs.replace(result(), targets=(target("a", 1.0, cells=(short,)),)))
    assert "answers ended early, after 50% of the tokens asked for" in text


def test_curves_alone_are_told_without_a_word_of_rounds_that_there_were_not():
    text = markdown(structs.replace(result(), targets=(), skipped=()))
    assert "Points of curves are medians of 2 interleaved rounds" in text
    assert "started anew" not in text


def test_a_curve_is_told_in_a_sentence():
    (curve,) = result().curves
    assert growth_text(curve).endswith("to the power of 1.00.")
    bent = structs.replace(curve, bends_at=128.0, exponent_after=2.0, problem="at 512: too long")
    assert growth_text(bent).endswith("1.00 up to 128, then 2.00 (at 512: too long).")
    assert isinstance(bent, Curve)


@pytest.mark.parametrize(
    ("speed", "threshold", "fails"), [(100, 5, False), (95, 6, False), (80, 5, True), (80, 50, False)]
)
def test_a_comparison_fails_past_the_threshold_and_outside_the_spread(speed, threshold, fails):
    found = comparison.changes(result(100.0), result(float(speed)))
    assert bool(comparison.worse(found, threshold)) is fails


def test_a_comparison_knows_that_more_milliseconds_are_worse():
    slower = [{"ttft_ms": 30.0, "prefill_per_s": 1000.0}] * 3
    cells = tuple(one for one in target("http", 90.0).cells if one.kind != "prefill")
    after = structs.replace(result(), targets=(target("http", 90.0, cells=(*cells, cell("prefill", 1, 256, slower))),))
    (worse,) = comparison.worse(comparison.changes(result(), after), 10)
    assert worse.what == "Time to the first token: prompt of 256"
    assert worse.worse_percent == pytest.approx(50)

"""One result as a table, as Markdown and as an HTML page."""

import re
from html.parser import HTMLParser

import pytest
from msgspec import structs

from cupola_server.bench.charts import log_ticks
from cupola_server.bench.markdown import print_report, render_markdown
from cupola_server.bench.page import render_page
from cupola_server.bench.report import describe_growth
from cupola_server.bench.results import Curve
from server.bench.example_results import cell, result, target

VOID = {"meta", "br"}


class Strict(HTMLParser):
    """Collects open tags, addresses and text."""

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


def test_a_page_loads_nothing_and_escapes_its_text():
    html = render_page(result())
    found = parsed(html)
    assert found.addresses == []
    assert not {"script", "link", "img", "iframe"} & found.tags
    assert "@import" not in html
    assert "url(" not in html
    assert "A <fast> one" in found.text
    assert "it cannot be <installed>" in found.text
    assert {"svg", "polyline", "circle", "table"} <= found.tags


def test_a_page_shows_a_chart_for_every_kind_of_figure():
    text = parsed(render_page(result())).text
    for title in (
        "Total throughput",
        "Time to the first token, one request at a time",
        "Time between tokens, 4 requests at a time",
        "Speed and quality",
        "Growth",
    ):
        assert title in text


def test_a_result_without_targets_and_curves_has_a_page():
    empty = structs.replace(result(), targets=(), curves=())
    assert "it cannot be <installed>" in parsed(render_page(empty)).text


def test_a_page_has_styles_for_dark_mode_print_and_phones():
    html = render_page(result())
    assert "prefers-color-scheme:dark" in html
    assert "@media print" in html
    assert 'name="viewport"' in html


@pytest.mark.parametrize(
    ("bottom", "top", "ticks"),
    [(20, 12_000, [100, 1000, 10_000]), (2, 60, [2, 5, 10, 20, 50]), (3.0, 6.5, [3, 4, 5, 6]), (5.1, 5.3, [5.1, 5.3])],
)
def test_a_logarithmic_axis_has_round_numbers(bottom, top, ticks):
    assert log_ticks(bottom, top) == pytest.approx(ticks)


def test_markdown_has_a_line_with_medians_and_spread_for_each_target():
    text = render_markdown(result())
    assert "| Cupola in-process | 100 ±5% |" in text
    assert "| Cupola http | 90.0 ±5% |" in text
    assert "Not measured: other. it cannot be <installed>" in text


def test_a_spread_above_100_percent_is_written_as_such():
    wild = cell("decode", 1, 64, [{"decode_per_s": speed} for speed in (10.0, 50.0, 300.0)])
    assert "50.0 ±>100%" in render_markdown(structs.replace(result(), targets=(target("a", 1.0, cells=(wild,)),)))


def test_speeds_are_shown_as_multiples_of_the_service():
    text = render_markdown(result())
    assert "**Speed, as a multiple of Cupola http**" in text
    assert "| Cupola in-process | 1.11 ±0% |" in text
    assert "| Cupola http | 1.00 ±0% |" in text
    assert "as a multiple" not in render_markdown(structs.replace(result(), targets=result().targets[:1]))


def test_a_table_shows_the_same_figures(capsys):
    print_report(result())
    shown = capsys.readouterr().out
    assert "Cupola in-process" in shown
    assert "100 ±5%" in re.sub(r"\s+", " ", shown)


def test_disturbed_samples_are_marked_and_counted():
    noisy = cell("decode", 1, 64, [{"decode_per_s": 50.0}] * 3, noisy=True)
    text = render_markdown(structs.replace(result(), targets=(target("a", 1.0, cells=(noisy,)),)))
    assert "~50.0" in text
    disturbed = "other processes used more than 0.1 cores, or memory was more than 1.15 times slower"
    assert f"3 of 3 samples were disturbed: {disturbed}" in text


def test_a_note_says_that_responses_ended_early():
    short = cell("decode", 1, 64, [{"decode_per_s": 50.0}] * 2, got=0.5)
    text = render_markdown(structs.replace(result(), targets=(target("a", 1.0, cells=(short,)),)))
    assert "responses ended early, after 50% of the requested tokens" in text


def test_remarks_on_curves_alone_do_not_mention_rounds_of_targets():
    text = render_markdown(structs.replace(result(), targets=(), skipped=()))
    assert "Each point of a curve is the median of 2 interleaved rounds" in text
    assert "restarts all targets" not in text


def test_the_growth_of_a_curve_is_one_sentence():
    (curve,) = result().curves
    assert describe_growth(curve).endswith("to the power of 1.00.")
    bent = structs.replace(curve, bends_at=128.0, exponent_after=2.0, problem="at 512: too long")
    assert describe_growth(bent).endswith("1.00 up to 128, then 2.00 (at 512: too long).")
    assert isinstance(bent, Curve)

"""Telling reasoning from the answer, however the text is cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cupola.frontend import TurnText
from cupola_server.openai.answer_parser import AnswerParser
from cupola_server.openai.reasoning import (
    REASONING_FORMATS,
    THINK,
    ReasoningSplitter,
    find_reasoning_format,
)
from cupola_server.openai.stream_events import ContentDelta, ReasoningDelta

words = st.text(st.characters(codec="ascii", categories=["L", "Zs"]) | st.sampled_from("<>/\n"), max_size=20)


def split(text, cuts=(), *, format_=THINK, opened=False):
    splitter = ReasoningSplitter(format_, opened=opened)
    ends = sorted({cut % (len(text) + 1) for cut in cuts} | {len(text)})
    reasoning, content = "", ""
    steps = [splitter.feed(text[begin:end]) for begin, end in zip([0, *ends], ends, strict=False)]
    for thought, answer in [*steps, splitter.finish()]:
        reasoning += "".join(piece.text for piece in thought)
        content += answer
    return reasoning, content


@given(thought=words, answer=words, cuts=st.lists(st.integers(0, 60)), opened=st.booleans())
@pytest.mark.parametrize("format_", REASONING_FORMATS, ids=lambda format_: format_.opening)
def test_what_is_between_the_markers_is_reasoning_however_it_is_cut(format_, thought, answer, cuts, opened):
    opening = "" if opened else format_.opening
    text = f"{opening}\n{thought}\n{format_.closing}\n\n{answer}"
    assert split(text, cuts, format_=format_, opened=opened) == (thought.strip(), answer.lstrip())


@given(text=st.text(), cuts=st.lists(st.integers(0, 60)))
def test_text_without_markers_is_the_answer_whole(text, cuts):
    assert split(text, cuts) == ("", text)


@pytest.mark.parametrize("text", ["<thin", "  ", "", "<b>think</b>", "I <think> so", "\n\nHello"])
def test_what_only_looks_like_reasoning_is_the_answer(text):
    assert split(text, range(100)) == ("", text)


@given(cuts=st.lists(st.integers(0, 100)))
def test_a_marker_that_holds_an_ending_token_is_seen_before_such_tokens_are_dropped(cuts):
    harmony = find_reasoning_format("<|channel|>analysis")
    reader = AnswerParser(
        ReasoningSplitter(harmony, opened=False), None, call_id=lambda: "", special_tokens=True, logprobs=False
    )
    tokens = [harmony.opening, "I ", "see.", "<|end|>", harmony.closing.removeprefix("<|end|>"), "Four.", "<|return|>"]
    ends = sorted({cut % (len(tokens) + 1) for cut in cuts} | {len(tokens)})
    pieces = []
    for begin, end in zip([0, *ends], ends, strict=False):
        pieces += reader.feed(TurnText(1, "".join(tokens[begin:end]), 1))
    pieces += reader.finish(cut=False)
    assert "".join(piece.text for piece in pieces if isinstance(piece, ReasoningDelta)) == "I see."
    assert "".join(piece.text for piece in pieces if isinstance(piece, ContentDelta)) == "Four."


def test_an_answer_that_is_cut_off_in_thought_is_all_reasoning():
    assert split("<think>\nLet me see. </thi", range(50)) == ("Let me see. </thi", "")
    assert split("Let me see.\n", opened=True) == ("Let me see.", "")


def test_reasoning_comes_as_it_is_thought():
    splitter = ReasoningSplitter(THINK, opened=True)
    assert splitter.feed("\nLet me ")[0][0].text == "Let me"
    assert splitter.feed("see.")[0][0].text == " see."
    assert not splitter.is_done
    assert splitter.feed("</think>4") == ([], "4")
    assert splitter.is_done


@pytest.mark.parametrize(
    ("template", "opening"),
    [
        ("{{ '<think>\\n\\n</think>' }}", "<think>"),
        ("[THINK]...[/THINK]", "[THINK]"),
        ("<|channel|>analysis<|message|>", "<|channel|>analysis<|message|>"),
        ("<|channel>thought", "<|channel>thought"),
    ],
)
def test_a_template_shows_how_its_model_marks_reasoning(template, opening):
    assert find_reasoning_format(template).opening == opening


def test_a_template_that_knows_of_no_reasoning_says_so():
    assert find_reasoning_format("{{ messages }}") is None

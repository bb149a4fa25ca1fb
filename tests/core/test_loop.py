from hypothesis import given
from hypothesis import strategies as st

from cupola.worker.loop import AnswerText
from echo_plugin import CharacterStream

letters = st.text("ab", max_size=30)


@given(letters, st.lists(st.text("ab", min_size=1, max_size=4), max_size=3), st.integers(1, 5))
def test_text_ends_right_before_the_first_stop_string_wherever_tokens_are_cut(text, stops, size):
    answer = AnswerText(CharacterStream(), stops)
    pieces = []
    for start in range(0, len(text), size):
        pieces.append(answer.push(map(ord, text[start : start + size])))
        if answer.stopped:
            break
    pieces.append(answer.finish())

    found = [at for stop in stops if (at := text.find(stop)) >= 0]
    seen = text[: start + size] if text else ""
    if answer.stopped:
        assert "".join(pieces) == text[: min(at for stop in stops if (at := seen.find(stop)) >= 0)]
    else:
        assert not found
        assert "".join(pieces) == text


def test_text_that_cannot_be_a_stop_string_is_not_held_back():
    answer = AnswerText(CharacterStream(), ["STOP"])
    assert answer.push(map(ord, "so S")) == "so "
    assert answer.push(map(ord, "uch")) == "Such"


def test_nothing_comes_after_a_stop_string():
    answer = AnswerText(CharacterStream(), ["."])
    assert answer.push(map(ord, "yes. no")) == "yes"
    assert answer.stopped
    assert answer.push(map(ord, "more")) == ""
    assert answer.finish() == ""

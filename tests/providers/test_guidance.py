"""Guided answers, on tiny random models: they would write anything, so what conforms is the guide's doing."""

import json
import re
import time

import jsonschema
import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cupola.errors import InvalidParameterError
from cupola.provider import Guidance, Limits, ModelFiles, Sampling, Turn
from cupola.testing.sessions import run_turn, run_turns
from cupola_providers.runtime.config import read_config
from cupola_providers.runtime.guidance import KEPT_GRAMMARS, Guides, Spelling
from cupola_providers.runtime.loading import RuntimeSetup, open_session
from cupola_providers.runtime.tokenizer import GenaiTokenizer
from random_schemas import schemas
from tiny_model import write_tiny_model

EOS = 2
VOCAB = 300


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return write_tiny_model(tmp_path_factory.mktemp("tiny"), context=2048)


@pytest.fixture(scope="module", params=["slots", "generator"])
def session(request, tiny):
    setup = RuntimeSetup(threads=1, session=request.param, kv_memory_bytes=20_000_000)
    session = open_session(ModelFiles("tiny:1", tiny), setup=setup, limits=Limits(prefill_chunk=32))
    yield session
    session.close()


@pytest.fixture(scope="module")
def slots(tiny):
    setup = RuntimeSetup(threads=1, session="slots", kv_memory_bytes=20_000_000)
    session = open_session(ModelFiles("tiny:1", tiny), setup=setup, limits=Limits())
    yield session
    session.close()


@pytest.fixture(scope="module")
def guides(tiny):
    config = read_config(tiny)
    return Guides(GenaiTokenizer(tiny, config), VOCAB, config.eos_token_ids)


def turn(guidance, max_tokens=200, *, seed=1, turn_id=1, sampling=None, **fields):
    sampling = sampling or Sampling(temperature=1.0, top_k=0, top_p=1.0, seed=seed)
    return Turn(turn_id, [20, 21, 22], max_tokens, sampling, guidance=guidance, **fields)


def text_of(session, answer):
    return b"".join(map(session.tokenizer.token_bytes, answer.tokens)).decode()


def schema(value):
    return Guidance("json_schema", json.dumps(value))


def refusal(session, guidance):
    with pytest.raises(InvalidParameterError) as caught:
        session.check(turn(guidance))
    return caught.value


def test_a_choice_is_one_of_the_list_and_ends_by_itself(session):
    choices = ["yes", "no", 'say "no"', "a\\b", "two\nlines", "héllo 🙂"]
    guidance = Guidance("choice", json.dumps(choices))
    seen = set()
    for seed in range(30):
        answer = run_turn(session, turn(guidance, seed=seed))
        assert answer.finish == "stop"
        seen.add(text_of(session, answer))
    assert len(seen) > 2
    assert seen <= set(choices)


def test_a_choice_that_begins_another_one_may_end_there_or_go_on(session):
    guidance = Guidance("choice", '["in", "ing"]')
    seen = {text_of(session, run_turn(session, turn(guidance, seed=seed))) for seed in range(60)}
    assert seen == {"in", "ing"}


def test_an_answer_conforms_to_a_regular_expression_to_its_ends(session):
    expression = r"[a-z]{3,8}@(foo|bar)\.(com|org)"
    for seed in range(10):
        answer = run_turn(session, turn(Guidance("regex", expression), seed=seed))
        assert answer.finish == "stop"
        assert re.fullmatch(expression, text_of(session, answer))


def test_an_answer_conforms_to_a_lark_grammar(session):
    grammar = 'start: expr\nexpr: NUMBER | "(" expr ("+" | "-") expr ")"\nNUMBER: /[1-9][0-9]{0,2}/\n'
    for seed in range(8):
        answer = run_turn(session, turn(Guidance("lark", grammar), 400, seed=seed))
        if answer.finish == "stop":
            assert isinstance(eval(text_of(session, answer)), int)


def test_a_grammar_may_use_the_models_special_tokens(session):
    answer = run_turn(session, turn(Guidance("lark", 'start: <|im_start|> "tool" <|im_start|>')))
    assert answer.tokens[0] == answer.tokens[-1] == 1
    assert text_of(session, answer) == "<|im_start|>tool<|im_start|>"


@pytest.mark.parametrize("values", ["òó", "🙂🙃", "é", "日本"])
def test_a_character_that_takes_several_tokens_is_written_whole(session, values):
    """The first bytes of all choices are the same, and alone they are no text."""
    wanted = {"enum": list(values)}
    seen = set()
    for seed in range(12):
        answer = run_turn(session, turn(schema(wanted), seed=seed))
        assert answer.error is None
        seen.add(json.loads(text_of(session, answer)))
    assert seen <= set(values)


@given(st.binary(max_size=20) | st.text(max_size=9).map(str.encode), st.booleans())
def test_whatever_has_to_come_is_told_in_tokens_that_stand_for_it(tiny, data, spaced):
    class Spaced(GenaiTokenizer):
        """Puts a space before every text, as some do."""

        def encode(self, text):
            return super().encode(f" {text}" if spaced else text)

    config = read_config(tiny)
    spelling = Spelling(Spaced(tiny, config), VOCAB, EOS)
    assert b"".join(spelling.tokens[token] for token in spelling(data)) == data


def test_what_a_schema_spells_out_must_be_writable(tiny):
    class Poor(GenaiTokenizer):
        """Has no token with the byte F1 or 14, as some vocabularies; JSON writes the latter in another way."""

        def token_bytes(self, token):
            data = super().token_bytes(token)
            return b"" if set(b"\xf1\x14") & set(data) else data

    guides = Guides(Poor(tiny, read_config(tiny)), VOCAB, [EOS])
    guides.guide(schema({"description": "\U00072a62", "enum": ["\U0001f642", "\x14", 5]}))
    for wanted in (
        schema({"anyOf": [{"type": "null"}, {"const": {"a": ["\U00072a62"]}}]}),
        schema({"properties": {"\U00072a62": {}}}),
        Guidance("choice", '["a", "\U00072a62"]'),
    ):
        with pytest.raises(InvalidParameterError, match="no tokens for"):
            guides.guide(wanted)


def test_special_tokens_are_no_text(session):
    for seed in range(20):
        answer = run_turn(session, turn(Guidance("regex", r"(?s:.){1,12}"), seed=seed))
        assert not {0, 1, 2} & set(answer.tokens)


def test_a_json_object_is_one(session):
    finished = 0
    for seed in range(12):
        answer = run_turn(session, turn(Guidance("json_object"), 400, seed=seed))
        assert answer.finish in ("stop", "length")
        if answer.finish == "stop":
            finished += 1
            assert isinstance(json.loads(text_of(session, answer)), dict)
    assert finished


def test_json_comes_without_whitespace_that_could_go_on_for_ever(session):
    whitespace = {token: 100.0 for token in range(VOCAB) if not session.tokenizer.token_bytes(token).strip()}
    assert whitespace
    sampling = Sampling(temperature=0.0, logit_bias=whitespace)
    wanted = {"type": "object", "properties": {"a": {"enum": [1, 2]}, "b": {"type": "array", "items": {"const": 3}}}}
    wanted |= {"required": ["a", "b"], "additionalProperties": False}
    wanted["properties"]["b"] |= {"minItems": 2, "maxItems": 2}
    answer = run_turn(session, turn(schema(wanted), sampling=sampling))
    assert answer.finish == "stop"
    assert text_of(session, answer) in ('{"a":1,"b":[3,3]}', '{"a":2,"b":[3,3]}')


def test_options_hidden_in_a_schema_do_not_bring_whitespace_back(session):
    wanted = {"type": "array", "items": {"const": 1}, "minItems": 2, "maxItems": 2}
    wanted["x-guidance"] = {"whitespace_flexible": True, "item_separator": ";", "whitespace_pattern": " *"}
    assert text_of(session, run_turn(session, turn(schema(wanted)))) == "[1,1]"


def test_bans_and_bias_cannot_break_an_answer(session):
    guidance = Guidance("choice", '["he", "hello"]')
    against = dict.fromkeys(range(VOCAB), -100.0) | {EOS: 100.0, 30: 100.0}
    greedy = Sampling(temperature=0.0, logit_bias=against)
    assert text_of(session, run_turn(session, turn(guidance, sampling=greedy))) in ("he", "hello")
    repeated = Sampling(temperature=0.0, repetition_penalty=5.0, frequency_penalty=2.0, presence_penalty=2.0)
    wanted = Guidance("regex", "(ab){40}")
    assert text_of(session, run_turn(session, turn(wanted, sampling=repeated))) == "ab" * 40


def test_an_answer_goes_on_to_min_tokens_where_the_grammar_lets_it(session):
    long = run_turn(session, turn(Guidance("regex", "a*"), 40, min_tokens=20))
    assert len(long.tokens) >= 20
    complete = run_turn(session, turn(Guidance("regex", "aaa"), 40, min_tokens=20))
    assert complete.finish == "stop"
    assert text_of(session, complete) == "aaa"


def test_ignoring_the_end_goes_on_while_there_is_something_to_say(session):
    answer = run_turn(session, turn(Guidance("regex", "a*"), 25, ignore_eos=True))
    assert answer.finish == "length"
    for guidance in (Guidance("choice", '["yes"]'), Guidance("choice", '["", "yes"]'), Guidance("regex", "")):
        answer = run_turn(session, turn(guidance, ignore_eos=True, min_tokens=5))
        assert answer.finish == "stop"
        assert text_of(session, answer) in ("yes", "")


def test_an_answer_that_is_complete_at_its_last_token_has_stopped(session):
    whole = run_turn(session, turn(Guidance("choice", '["yes"]')))
    again = run_turn(session, turn(Guidance("choice", '["yes"]'), max_tokens=len(whole.tokens)))
    assert (again.tokens, again.finish) == (whole.tokens, "stop")
    cut = run_turn(session, turn(Guidance("choice", '["yes"]'), max_tokens=len(whole.tokens) - 1))
    assert cut.finish == "length"


def test_a_stop_token_ends_a_guided_answer(session):
    a = session.tokenizer.encode("a")[0]
    answer = run_turn(session, turn(Guidance("regex", "[ab]{90}"), stop_token_ids=frozenset({a})))
    assert answer.finish == "stop"
    assert a not in answer.tokens


def test_log_probabilities_are_those_of_the_free_model(session):
    free = run_turn(session, turn(None, 1, sampling=Sampling(temperature=0.0), top_logprobs=5, ignore_eos=True))
    guided = run_turn(session, turn(Guidance("choice", '["yes"]'), 1, top_logprobs=5))
    assert guided.logprobs[0].top == free.logprobs[0].top
    assert guided.logprobs[0].token == guided.tokens[0]


def test_the_same_seed_gives_the_same_guided_answer(session):
    first = run_turn(session, turn(Guidance("json_object"), 80, seed=3))
    assert run_turn(session, turn(Guidance("json_object"), 80, seed=3)).tokens == first.tokens


def test_guided_and_free_turns_share_a_session_and_do_not_touch_each_other(session):
    kinds = (None, Guidance("json_object"), Guidance("regex", "[a-z ]*"), Guidance("choice", '["yes", "no"]'))
    turns = [turn(kinds[n % 4], 30, seed=n, turn_id=n) for n in range(1, 13)]
    alone = {one.id: run_turn(session, one).tokens for one in turns}
    assert {turn_id: answer.tokens for turn_id, answer in run_turns(session, turns).items()} == alone


@pytest.mark.parametrize(
    ("guidance", "said"),
    [
        (schema({"type": "strin"}), "at #: Invalid type: strin"),
        (schema({"properties": {"a/b": {"items": {"type": "strin"}}}}), "at #/properties/a~1b/items: Invalid type"),
        (schema({"anyOf": [{"type": "null"}, {"minLength": -1}]}), "at #/anyOf/1: "),
        (schema({"$ref": "#/$defs/x", "$defs": {"x": {"type": "thing"}}}), "at #/$defs/x: Invalid type: thing"),
        (schema({"properties": {"a": {"$ref": "#/$defs/x"}}, "$defs": {}}), "#/properties/a: "),
        (schema({"properties": {"a": {"pattern": "("}}}), "at #/properties/a: regex parse error"),
        (schema({"properties": {"a": {"not": {}}}}), "at #/properties/a: Unimplemented keys"),
        (schema({"type": "integer", "minimum": 3, "maximum": 2}), "Unsatisfiable"),
        (schema([]), "the JSON schema is not an object"),
        (schema(False), "the JSON schema is not an object"),
        (Guidance("json_schema", "{"), "the JSON schema is not JSON"),
        (Guidance("json_schema", "[" * 100_000), "the JSON schema is not JSON"),
        (Guidance("json_schema", '{"items":' * 500 + "{}" + "}" * 500), "recursion limit"),
        (schema({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}), "no token sequence of this model"),
        (Guidance("regex", "(a"), "unclosed group"),
        (Guidance("regex", "a(?=b)"), "look-around"),
        (Guidance("lark", "start: word"), "1(8): unknown name"),
        (Guidance("lark", "start: start"), "no token sequence of this model"),
        (Guidance("lark", ""), "Empty grammar"),
        (Guidance("choice", "[]"), "at least one"),
        (Guidance("choice", "[1]"), "list of strings"),
        (Guidance("choice", "yes"), "not JSON"),
    ],
)
def test_what_is_wrong_is_said_with_its_place_before_the_turn_is_accepted(slots, guidance, said):
    error = refusal(slots, msgspec.structs.replace(guidance, param="my_param"))
    assert error.param == "my_param"
    assert error.detail.startswith("my_param cannot be used: ")
    assert said in error.detail
    assert "<state>" not in error.detail
    assert run_turn(slots, turn(guidance)).error.fields["param"] == "response_format"


def test_a_schema_that_allows_everything_is_one(session):
    for text in ("true", "{}"):
        answer = run_turn(session, turn(Guidance("json_schema", text), 30))
        assert answer.error is None


def test_a_model_without_an_end_cannot_be_guided(tiny):
    guides = Guides(GenaiTokenizer(tiny, read_config(tiny)), VOCAB, [VOCAB + 1])
    with pytest.raises(InvalidParameterError, match="no end-of-sequence token"):
        guides.guide(Guidance("json_object"))


def test_a_grammar_is_compiled_once_and_the_oldest_is_forgotten(guides, monkeypatch):
    compiled = []
    compile_, guides._compiled = guides._compile, type(guides._compiled)()
    monkeypatch.setattr(guides, "_compile", lambda guidance: compiled.append(guidance) or compile_(guidance))
    wanted = [Guidance("choice", json.dumps([str(n)])) for n in range(KEPT_GRAMMARS)]
    for guidance in [*wanted, wanted[0], Guidance("json_object"), wanted[0]]:
        guides.guide(guidance)
    assert len(compiled) == KEPT_GRAMMARS + 1
    guides.guide(wanted[1])
    assert len(compiled) == KEPT_GRAMMARS + 2


def test_a_grammar_that_grows_beyond_all_bounds_fails_its_turn_alone(slots):
    """Ambiguity without end: the parser's own limits end it."""
    nasty = Guidance("lark", 'start: x\nx: x x x | "a" | "aa" | x "a" x | ""\n')
    started = time.perf_counter()
    answers = run_turns(slots, [turn(nasty, 1000, turn_id=1), turn(Guidance("choice", '["yes"]'), turn_id=2)])
    assert time.perf_counter() - started < 60
    assert answers[2].finish == "stop"
    assert answers[1].finish or "could not be guided" in answers[1].error.fields["detail"]


def test_masking_leaves_the_logits_alone(guides):
    guide = guides.guide(Guidance("choice", '["a"]'))
    row = np.zeros(VOCAB, np.float32)
    masked = guide.mask(row)
    assert np.isfinite(masked).sum() == 1
    assert not row.any()


@given(schemas, st.integers(0, 2**31))
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_finished_answer_is_valid_under_its_schema(slots, wanted, seed):
    answer = run_turn(slots, turn(schema(wanted), 400, seed=seed))
    assert answer.error is None, answer.error
    if answer.finish == "stop":
        jsonschema.validate(json.loads(text_of(slots, answer)), wanted)

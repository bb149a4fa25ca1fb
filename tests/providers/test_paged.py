"""The paged session on the engine's static batching, the only one a CPU runs; and the engine's refusals."""

import json
import shutil

import onnxruntime_genai as og
import pytest

from cupola.errors import InvalidParameterError, LoadError
from cupola.provider import Guidance, Limits, ModelFiles, Sampling, Turn
from cupola.testing.sessions import run_turn, run_turns
from cupola_providers.runtime.config import read_config
from cupola_providers.runtime.generator import GeneratorSession
from cupola_providers.runtime.loading import RuntimeSetup, choose_kind, open_session
from cupola_providers.runtime.paged import PagedSession
from cupola_providers.runtime.target import Target
from cupola_providers.runtime.tokenizer import GenaiTokenizer
from tiny_model import write_tiny_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_tiny_model(tmp_path_factory.mktemp("tiny"), context=512)


def opened(folder, engine):
    config = read_config(folder)
    library = og.Config(str(folder))
    library.overlay(json.dumps({"engine": engine, "search": {"max_length": 256, "num_beams": 1, "min_length": 0}}))
    return PagedSession(og.Model(library), config, GenaiTokenizer(folder, config), context_length=256)


@pytest.fixture
def session(folder):
    session = opened(folder, {"static_batching": {"max_batch_size": 3}})
    yield session
    session.close()


def turn(number, max_tokens=8, *, ignore_eos=True, prompt=range(20, 30), **options):
    sampling = options.pop("sampling", Sampling(temperature=0.0))
    return Turn(number, [token + number for token in prompt], max_tokens, sampling, ignore_eos, **options)


def test_turns_share_the_engines_batch_and_answer_as_the_generator_does(session, folder):
    config = read_config(folder)
    alone = GeneratorSession(og.Model(str(folder)), config, GenaiTokenizer(folder, config), Limits())
    turns = [turn(number, 6 + number) for number in range(3)]
    together = run_turns(session, turns)
    assert session.capacity == 3
    for one in turns:
        assert together[one.id].tokens == run_turn(alone, one).tokens
        assert together[one.id].finish == "length"


def test_more_turns_than_the_batch_holds_are_all_answered(session):
    answers = run_turns(session, [turn(number, 4) for number in range(7)])
    assert {len(answer.tokens) for answer in answers.values()} == {4}


def test_a_cancelled_turn_gets_no_further_event(session):
    session.admit(turn(1, 100))
    session.admit(turn(2, 5))
    session.step()
    session.cancel(1)
    session.cancel(99)
    events = [event for _ in range(8) for event in session.step()]
    assert {event.turn_id for event in events} == {2}
    assert events[-1].finish == "length"


@pytest.mark.parametrize(
    ("sampling", "options", "param"),
    [
        ({"min_p": 0.1}, {}, "min_p"),
        ({"presence_penalty": 1.0}, {}, "presence_penalty"),
        ({"frequency_penalty": 1.0}, {}, "frequency_penalty"),
        ({"logit_bias": {5: 1.0}}, {}, "logit_bias"),
        ({}, {"stop_token_ids": frozenset({5})}, "stop_token_ids"),
        ({}, {"top_logprobs": 0}, "logprobs"),
        ({}, {"prompt": [10_000]}, "prompt"),
    ],
)
def test_what_the_engine_would_ignore_is_refused(session, sampling, options, param):
    with pytest.raises(InvalidParameterError) as caught:
        session.check(turn(1, sampling=Sampling(**sampling), **options))
    assert caught.value.param == param


def test_what_the_engine_refuses_fails_that_turn_alone(session):
    """Seeds need dynamic batching; the library says so only when the turn begins."""
    session.admit(turn(1, sampling=Sampling(temperature=1.0, seed=3)))
    session.admit(turn(2, 3))
    answers = {}
    while len(answers) < 2:
        for event in session.step():
            if event.finish or event.error:
                answers[event.turn_id] = event
    assert "dynamic batching" in str(answers[1].error.fields)
    assert answers[2].finish == "length"


def test_guidance_is_the_engines_own(session):
    allowed = Guidance("choice", '["<", "="]')
    answer = run_turn(session, turn(1, 4, ignore_eos=False, guidance=allowed))
    assert session.tokenizer.encode("<") == answer.tokens or session.tokenizer.encode("=") == answer.tokens


def test_dynamic_batching_on_a_cpu_is_a_clear_error(folder):
    with pytest.raises(LoadError, match="engine rejected it"):
        opened(folder, {"dynamic_batching": {"max_batch_size": 4}})


def test_a_paged_export_is_refused_where_it_cannot_run_before_anything_is_loaded(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "paged")
    path = tmp_path / "paged" / "genai_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "engine": {"dynamic_batching": {}}}))
    with pytest.raises(LoadError, match="CUDA and WebGPU only"):
        open_session(ModelFiles("paged:1", tmp_path / "paged"), setup=RuntimeSetup(), limits=Limits())
    files, config, setup = (
        ModelFiles("paged:1", tmp_path),
        read_config(tmp_path / "paged"),
        RuntimeSetup(target=Target(provider="CUDAExecutionProvider", genai_name="cuda")),
    )
    assert choose_kind(files, config, setup, Limits()).kind == "paged"

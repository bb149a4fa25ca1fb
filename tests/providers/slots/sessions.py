"""Sessions and turns for tests."""

import msgspec
import numpy as np

from cupola.provider import Limits, ModelFiles, Sampling, Turn
from cupola.testing.sessions import run_turn
from cupola_providers.runtime.config import read_config
from cupola_providers.runtime.slots import SlotsSession, slots_graph
from cupola_providers.runtime.tokenizer import GenaiTokenizer

GREEDY = Sampling(temperature=0.0)
VOCAB = 300


def open_slots(folder, *, slots=4, context_length=512, chunk=32, budget=None, speculation=True, **config_changes):
    config = read_config(folder)
    context = max(context_length, config.model.context_length)
    model = msgspec.structs.replace(config.model, **{"context_length": context, **config_changes})
    config = msgspec.structs.replace(config, model=model)
    graph = slots_graph(folder, config)
    return SlotsSession.open(
        ModelFiles("tiny-generic-cpu:1", folder),
        config,
        GenaiTokenizer(folder, config),
        threads=1,
        spinning=False,
        limits=Limits(context_length, chunk),
        memory_budget_bytes=slots * context_length * graph.kv_bytes_per_token if budget is None else budget,
        speculation=speculation,
    )


def prompt(length, seed=0):
    return np.random.default_rng(seed).integers(3, VOCAB, length).tolist()


def turn(turn_id, tokens, max_tokens=8, sampling=GREEDY, *, ignore_eos=True):
    return Turn(turn_id, tokens, max_tokens, sampling, ignore_eos)


def alone(folder, one, **options):
    session = open_slots(folder, slots=1, **options)
    answer = run_turn(session, one)
    session.close()
    return answer.tokens


def run_steps(folder, one, **options):
    """Return all events of a turn."""
    session, events = open_slots(folder, **options), []
    session.check(one)
    session.admit(one)
    while not events or not (events[-1].finish or events[-1].error):
        events += session.step()
    return events

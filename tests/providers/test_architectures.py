"""Imported models of every architecture, run by both kinds of sessions: the same tokens, and those of the reference."""

import numpy as np
import pytest

from cupola.provider import Limits, ModelFiles, Sampling, Turn
from cupola.testing.sessions import run_turn
from cupola_plugins.gguf import Layout
from cupola_plugins.gguf.architecture import ARCHITECTURES
from cupola_providers.runtime.loading import RuntimeSetup, open_session
from tiny_model import TinySizes, reference_logits, write_tiny_model

PROMPT = [1, 118, 120, 104, 13, 264, 35, 52, 99, 200, 2, 13, 77]
SIZES = {"gemma2": {"layers": 3, "window": 6}, "gemma3": {"layers": 7, "window": 6}, "qwen3": {"head_size": 32}}


def generated(folder, kind, tokens):
    session = open_session(
        ModelFiles("tiny:1", folder), setup=RuntimeSetup(session=kind, threads=1), limits=Limits(prefill_chunk=16)
    )
    try:
        answer = run_turn(session, Turn(1, PROMPT, tokens, Sampling(temperature=0.0), ignore_eos=True))
    finally:
        session.close()
    assert session.kind == kind
    return answer.tokens


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_slots_and_generator_give_the_same_tokens_and_begin_as_the_reference_does(tmp_path, architecture):
    sizes = {"architecture": architecture, **SIZES.get(architecture, {})}
    write_tiny_model(tmp_path, layout=Layout.INT8_BLOCKS, **sizes)
    slots, generator = (generated(tmp_path, kind, 24) for kind in ("slots", "generator"))
    assert len(slots) == 24
    assert slots == generator
    logits = reference_logits(PROMPT, TinySizes(**sizes))[-1]
    assert slots[0] in np.argsort(logits)[-2:]  # activations are rounded to 8 bits

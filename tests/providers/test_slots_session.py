"""The `slots` session on tiny random models: real graphs, real ONNX Runtime, no language."""

import pytest
from tiny_model import write_tiny_model

from cupola import Limits, ModelFiles
from cupola.testing.sessions import SessionSuite
from cupola_providers.runtime.config import read_config
from cupola_providers.runtime.slots import SlotsSession
from cupola_providers.runtime.slots.graph import slots_graph
from cupola_providers.runtime.tokenizer import GenaiTokenizer


def open_slots(folder, *, slots=4, context_length=None, chunk=32):
    config = read_config(folder)
    limits = Limits(context_length, chunk)
    length = min(context_length or config.model.context_length, config.model.context_length)
    budget = slots * length * slots_graph(folder, config).kv_bytes_per_token
    return SlotsSession.open(
        ModelFiles("tiny-generic-cpu:1", folder),
        config,
        GenaiTokenizer(folder, config),
        threads=1,
        spinning=False,
        limits=limits,
        memory_budget_bytes=budget,
    )


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return write_tiny_model(tmp_path_factory.mktemp("tiny"))


class TestTheSlotsSession(SessionSuite):
    vocab_size = 300

    @pytest.fixture
    def session(self, tiny):
        session = open_slots(tiny)
        yield session
        session.close()

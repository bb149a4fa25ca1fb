import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cupola.errors import InvalidParameterError, LoadError, ModelFormatError
from cupola.provider import Device, EmbeddingSession, Limits, ModelFiles
from cupola_providers.cpu import CpuOptions, CpuProvider
from cupola_providers.runtime.embedding import batches, is_embedding_model, open_embedding, pool_states
from tiny_embedder import DIMENSIONS, PIECES, TABLE, write_tiny_embedder


def opened(folder, limits=None):
    return open_embedding(ModelFiles("tiny", folder), threads=1, spinning=False, limits=limits or Limits())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_tiny_embedder(tmp_path_factory.mktemp("embedder"))


def test_the_cpu_loads_a_folder_whose_configuration_says_so_as_an_embedding_model(folder):
    session = CpuProvider().load(
        ModelFiles("tiny", folder), Device("CPUExecutionProvider", "CPU"), CpuOptions(threads=1), Limits()
    )
    assert isinstance(session, EmbeddingSession)
    assert (session.kind, session.dimensions, session.context_length) == ("embedding", DIMENSIONS, 16)
    assert session.threads == 1


@pytest.mark.parametrize("content", [None, b"", b"{", b"\xff", b"[]", b"{}", b'{"model": {"type": "llama"}}'])
def test_no_other_folder_is_taken_for_one(tmp_path, content):
    if content is not None:
        (tmp_path / "genai_config.json").write_bytes(content)
    assert not is_embedding_model(tmp_path)


def test_a_vector_is_the_mean_over_the_text_and_has_length_1(folder):
    tokens = [2, 4, 5, 3]
    (vector,) = opened(folder).embed([tokens])
    mean = TABLE[tokens].mean(axis=0)
    assert vector == pytest.approx(mean / np.linalg.norm(mean), abs=1e-6)


def test_models_that_want_it_get_the_state_of_their_first_token(tmp_path):
    write_tiny_embedder(tmp_path, config={"embedding": {"pooling": "cls"}})
    (vector,) = opened(tmp_path).embed([[5, 4, 4]])
    assert vector == pytest.approx(TABLE[5] / np.linalg.norm(TABLE[5]), abs=1e-6)


@given(st.lists(st.lists(st.integers(1, len(PIECES) - 1), min_size=1, max_size=16), max_size=40))
def test_neighbours_and_padding_change_no_vector_and_no_order(folder, inputs):
    session = opened(folder)
    together = session.embed(inputs)
    assert len(together) == len(inputs)
    for one, vector in zip(inputs, together, strict=True):
        assert vector == pytest.approx(session.embed([one])[0], abs=1e-6)


@given(st.lists(st.integers(1, 2000), max_size=300))
def test_batches_hold_every_text_once_and_waste_little(lengths):
    made = list(batches(lengths))
    assert sorted(number for batch in made for number in batch) == list(range(len(lengths)))
    for batch in made:
        longest = max(lengths[number] for number in batch)
        assert len(batch) == 1 or len(batch) * longest <= 512
        assert len(batch) <= 64


def test_texts_whose_states_cancel_out_give_no_numbers_that_are_none():
    states = np.array([[[1.0, 2.0], [-1.0, -2.0]]], np.float32)
    assert not np.isnan(pool_states(states, np.ones((1, 2), np.int64), "mean")).any()


@pytest.mark.parametrize("token", [-1, len(PIECES), 2**40])
def test_a_token_that_is_not_in_the_vocabulary_is_refused_with_the_number_of_its_input(folder, token):
    with pytest.raises(InvalidParameterError, match=str(token)) as caught:
        opened(folder).embed([[4], [4, token]])
    assert caught.value.param == "input[1]"


def test_the_settings_can_shorten_the_context_but_not_lengthen_it(folder):
    assert opened(folder, Limits(context_length=4)).context_length == 4
    assert opened(folder, Limits(context_length=400)).context_length == 16


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("genai_config.json", b"{", "download it again"),
        ("genai_config.json", b'{"model": {"type": "bert-embedding"}}', "context_length is 0"),
        ("model.onnx", None, "the file is missing"),
        ("model.onnx", b"no protobuf", "cannot read the graph"),
        ("tokenizer.json", None, "cannot be read"),
        ("tokenizer.json", b"{", "damaged"),
        ("tokenizer.json", json.dumps({"model": {"type": "BPE", "vocab": {}}}).encode(), "WordPiece"),
    ],
)
def test_a_file_that_is_missing_or_damaged_is_named_with_what_to_do(tmp_path, name, content, reason):
    write_tiny_embedder(tmp_path)
    (tmp_path / name).unlink()
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelFormatError, match=reason) as caught:
        opened(tmp_path)
    assert caught.value.path.endswith(name)


def test_a_graph_that_wants_more_than_a_text_is_refused(tmp_path):
    write_tiny_embedder(tmp_path, inputs=("input_ids", "pixel_values"))
    with pytest.raises(ModelFormatError, match="pixel_values"):
        opened(tmp_path)


def test_files_that_do_not_fit_together_are_refused_when_loading(tmp_path):
    write_tiny_embedder(tmp_path, config={"pad_token_id": 999})
    with pytest.raises(LoadError, match="do not fit together"):
        opened(tmp_path)

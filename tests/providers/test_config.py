import json

import pytest

from cupola.errors import ModelFormatError
from cupola.provider import Sampling
from cupola_providers.runtime.config import GenaiConfig, ModelSection, SearchSection, read_config, resolve


def write(folder, **model):
    content = {"model": {"type": "llama", "vocab_size": 100, "context_length": 512, **model}, "search": {"new": [1]}}
    (folder / "genai_config.json").write_text(json.dumps(content), "utf-8")
    return folder


def config(**search):
    return GenaiConfig(ModelSection("llama", 100, 512), SearchSection(**search))


def test_what_is_known_is_read_and_unknown_keys_are_ignored(tmp_path):
    decoder = {
        "filename": "model.onnx",
        "num_hidden_layers": 3,
        "head_size": 64,
        "inputs": {"input_ids": "ids", "x": "y"},
    }
    read = read_config(write(tmp_path, decoder=decoder, eos_token_id=2, future={"a": 1}))
    assert (read.model.context_length, read.model.vocab_size, read.eos_token_ids) == (512, 100, (2,))
    assert read.model.decoder.num_hidden_layers == 3
    assert read.model.decoder.inputs.input_ids == "ids"
    assert read.model.decoder.inputs.past_key_names == "past_key_values.%d.key"


@pytest.mark.parametrize(("given", "expected"), [(7, (7,)), ([7, 9], (7, 9)), ([], ())])
def test_one_or_several_tokens_end_an_answer(tmp_path, given, expected):
    assert read_config(write(tmp_path, eos_token_id=given)).eos_token_ids == expected


def test_control_tokens_are_bos_eos_and_padding(tmp_path):
    read = read_config(write(tmp_path, eos_token_id=[7, 9], bos_token_id=0))
    assert read.control_token_ids == {0, 7, 9}


def test_a_missing_file_says_that_this_is_no_genai_model(tmp_path):
    with pytest.raises(ModelFormatError, match=r"genai_config\.json: the file is missing.*download it again"):
        read_config(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b'{"model": {}}', b"[1]", b"\xff\xfe", b'{"model": {"type": 3}}'])
def test_a_damaged_file_is_refused_with_what_to_do(tmp_path, content):
    (tmp_path / "genai_config.json").write_bytes(content)
    with pytest.raises(ModelFormatError, match="damaged.*download it again"):
        read_config(tmp_path)


@pytest.mark.parametrize("name", ["vocab_size", "context_length"])
def test_a_model_without_room_is_refused(tmp_path, name):
    with pytest.raises(ModelFormatError, match=f"model.{name} is 0"):
        read_config(write(tmp_path, **{name: 0}))


def test_a_model_that_does_not_sample_is_greedy_unless_the_request_gives_a_temperature():
    published = config(do_sample=False, temperature=0.7)
    assert resolve(Sampling(), published).temperature == 0
    assert resolve(Sampling(temperature=0.4), published).temperature == 0.4


def test_what_a_request_leaves_open_comes_from_the_model():
    resolved = resolve(Sampling(), config(do_sample=True, temperature=0.6, top_k=20, top_p=0.9, repetition_penalty=1.1))
    assert (resolved.temperature, resolved.top_k, resolved.top_p, resolved.repetition_penalty) == (0.6, 20, 0.9, 1.1)


def test_what_a_request_says_stays():
    given = Sampling(
        temperature=1.2, top_k=0, top_p=0.5, repetition_penalty=1.3, min_p=0.1, seed=0, logit_bias={3: 1.0}
    )
    assert resolve(given, config(do_sample=True, top_k=20)) == given


def test_nothing_is_left_open():
    resolved = resolve(Sampling(), config())
    assert None not in (getattr(resolved, name) for name in Sampling.__struct_fields__)


def test_a_request_without_a_seed_gets_another_one_each_time():
    assert resolve(Sampling(), config()).seed != resolve(Sampling(), config()).seed


def test_defaults_that_switch_something_off_with_zero_are_understood():
    resolved = resolve(Sampling(), config(do_sample=True, top_p=0.0, top_k=-1, repetition_penalty=0.0))
    assert (resolved.top_p, resolved.top_k, resolved.repetition_penalty) == (1.0, 0, 1.0)

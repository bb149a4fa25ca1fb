import json

import numpy as np
import onnxruntime_genai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cupola.errors import ModelFormatError
from cupola_plugins.gguf import files
from cupola_plugins.gguf.importer import import_gguf
from cupola_plugins.gguf.tokenizer import GgufTokenizer
from tiny_model import CHAT_TEMPLATE, CONTROL, NORMAL, TinyGguf, tiny_gguf, vocabulary

IDS = {token: number for number, token in enumerate(vocabulary())}
USER_DEFINED = 4


@pytest.fixture
def imported(tmp_path):
    """A function that imports a changed file and returns its tokenizer as onnxruntime-genai reads it."""

    def load(gguf: TinyGguf):
        import_gguf(gguf.write(tmp_path / "tiny.gguf"), tmp_path)
        return onnxruntime_genai.Tokenizer(onnxruntime_genai.Config(str(tmp_path)))

    return load


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    import_gguf(tiny_gguf().write(folder / "tiny.gguf"), folder)
    return onnxruntime_genai.Tokenizer(onnxruntime_genai.Config(str(folder)))


def encode(tokenizer, text):
    return [int(token) for token in tokenizer.encode(text)]


def decode(tokenizer, tokens):
    return tokenizer.decode(np.array(tokens, np.int32))


def ids(*tokens):
    return [IDS[token] for token in tokens]


def changed(**metadata):
    gguf = tiny_gguf()
    for key, value in metadata.items():
        gguf.metadata[f"tokenizer.{key.replace('__', '.')}"] = value
    return gguf


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
@settings(deadline=None)
def test_text_survives_a_round_trip(tokenizer, text):
    assert decode(tokenizer, encode(tokenizer, text)) == text


@pytest.mark.parametrize("text", ["2 + 2 = 4", "😀👩‍👩‍👧", "été 中文\n\t x", "a  12\n\n345", "don't"])
def test_these_texts_survive_a_round_trip(tokenizer, text):
    assert decode(tokenizer, encode(tokenizer, text)) == text


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("hello", ["hello"]),
        (" the and", ["Ġthe", "Ġand"]),
        ("123", ["1", "2", "3"]),
        ("a  12", ["a", "ĠĠ", "1", "2"]),
        ("\n\n1", ["ĊĊ", "1"]),
        ("x٣½", ["x", "Ù", "£", "Â", "½"]),
        ("  the", ["Ġ", "Ġthe"]),
        ("the<|im_end|>", ["t", "he", "<|im_end|>"]),
    ],
)
def test_smollm_splits_off_every_digit_before_anything_else(tokenizer, text, tokens):
    assert encode(tokenizer, text) == ids(*tokens)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [("a  12", ["a", "Ġ", "Ġ", "1", "2"]), ("\n\n1", ["Ċ", "Ċ", "1"]), ("  the", ["Ġ", "Ġthe"])],
)
def test_gpt_2_keeps_a_space_with_the_number_behind_it(imported, text, tokens):
    assert encode(imported(changed(ggml__pre="gpt-2")), text) == ids(*tokens)


@pytest.mark.timeout(30)
def test_a_first_merge_with_a_hash_does_not_hang_the_runtime(imported):
    gguf = tiny_gguf()
    gguf.metadata["tokenizer.ggml.tokens"][-1] = "##"
    gguf.metadata["tokenizer.ggml.merges"] = ["# #", *gguf.metadata["tokenizer.ggml.merges"][:-1]]
    assert encode(imported(gguf), "##") == [len(IDS) - 1]


def test_control_tokens_vanish_from_text_and_user_defined_ones_stay(imported):
    types = [CONTROL] * 3 + [NORMAL] * (len(IDS) - 4) + [USER_DEFINED]
    tokenizer = imported(changed(ggml__token_type=types))
    assert decode(tokenizer, encode(tokenizer, "say hello<|im_end|>!")) == "say hello!"


def test_every_token_that_ends_an_answer_is_known(imported):
    assert imported(changed(ggml__eot_token_id=0)).eos_token_ids.tolist() == [2, 0]


def test_the_chat_template_is_kept_as_it_is(imported, tmp_path):
    tokenizer = imported(tiny_gguf())
    assert (tmp_path / files.CHAT_TEMPLATE).read_text() == CHAT_TEMPLATE
    assert json.loads((tmp_path / files.TOKENIZER_CONFIG).read_text())["chat_template"] == CHAT_TEMPLATE
    messages = json.dumps([{"role": "user", "content": "hello"}])
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=True)
    assert text == "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n"


@pytest.mark.parametrize(
    "key", ["chat_template", "ggml.bos_token_id", "ggml.unknown_token_id", "ggml.padding_token_id"]
)
def test_what_is_optional_may_be_missing(imported, tmp_path, key):
    gguf = tiny_gguf()
    del gguf.metadata[f"tokenizer.{key}"]
    tokenizer = imported(gguf)
    assert encode(tokenizer, "hello") == ids("hello")
    assert onnxruntime_genai.Model(str(tmp_path)).type == "llama"
    assert (tmp_path / files.CHAT_TEMPLATE).exists() == (key != "chat_template")


@pytest.mark.parametrize(
    ("template", "written"),
    [
        ("{{ bos_token }}{{ messages[0]['content'] }}", "{{ bos_token }}{{ messages[0]['content'] }}"),
        ("<|im_start|>{{ messages[0]['content'] }}", "<|im_start|>{{ messages[0]['content'] }}"),
        ("{{ messages[0]['content'] }}", "{{ bos_token }}{{ messages[0]['content'] }}"),
    ],
)
def test_texts_and_chats_begin_once_with_the_token_that_the_file_wants(imported, tmp_path, template, written):
    tokenizer = imported(changed(ggml__add_bos_token=True, chat_template=template))
    assert (tmp_path / files.CHAT_TEMPLATE).read_text() == written
    tokenizer.update_options(add_special_tokens="true")
    assert encode(tokenizer, "hello") == ids("<|im_start|>", "hello")


def test_llama_3_wants_it_without_saying_so(imported):
    gguf = changed(ggml__pre="llama-bpe")
    del gguf.metadata["tokenizer.ggml.add_bos_token"]
    tokenizer = imported(gguf)
    tokenizer.update_options(add_special_tokens="true")
    assert encode(tokenizer, "hello") == ids("<|im_start|>", "hello")


def test_a_text_that_must_begin_with_an_unknown_token_is_refused(tmp_path):
    gguf = changed(ggml__add_bos_token=True)
    del gguf.metadata["tokenizer.ggml.bos_token_id"]
    with pytest.raises(ModelFormatError, match="add_bos_token but not bos_token_id"):
        GgufTokenizer(tmp_path, gguf.metadata)


def test_tokens_that_are_known_to_end_a_turn_end_it_though_the_file_names_another(imported):
    assert imported(changed(ggml__eos_token_id=0)).eos_token_ids.tolist() == [0, 2]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"ggml__model": "llama"}, "pre-tokenizer 'smollm'"),
        ({"ggml__model": "t5", "ggml__pre": "default"}, "Supported: 'gpt2' with"),
        ({"ggml__model": "bert"}, "the tokenizer 'bert'"),
        ({"ggml__pre": "tekken"}, "pre-tokenizer 'tekken'"),
        ({"ggml__pre": "default"}, "pre-tokenizer 'default'"),
        ({"ggml__pre": 7}, "pre-tokenizer 7"),
        ({"ggml__precompiled_charsmap": [1]}, "precompiled_charsmap"),
        ({"ggml__add_eos_token": True}, "add_eos_token"),
        ({"ggml__tokens": ["a"] * len(IDS)}, "occurs twice"),
        ({"ggml__tokens": list(range(len(IDS)))}, "values that are not strings"),
        ({"ggml__token_type": [1, 2]}, "2 token types"),
        ({"ggml__token_type": 3}, "has no list"),
        ({"ggml__merges": ["nospace"]}, "'nospace'"),
        ({"ggml__merges": ["one two three"]}, "'one two three'"),
        ({"ggml__merges": ["q z"]}, "'q z'"),
        ({"ggml__eos_token_id": len(IDS)}, "is not a token id"),
        ({"ggml__eos_token_id": "x"}, "is not a token id"),
    ],
    ids=str,
)
def test_a_tokenizer_that_would_come_out_wrong_is_refused(tmp_path, changes, reason):
    with pytest.raises(ModelFormatError) as caught:
        GgufTokenizer(tmp_path, changed(**changes).metadata)
    assert reason in caught.value.detail


@pytest.mark.parametrize("key", ["model", "pre", "tokens", "token_type", "merges", "eos_token_id"])
def test_a_tokenizer_without_the_essentials_is_refused(tmp_path, key):
    gguf = tiny_gguf()
    del gguf.metadata[f"tokenizer.ggml.{key}"]
    with pytest.raises(ModelFormatError):
        GgufTokenizer(tmp_path, gguf.metadata)

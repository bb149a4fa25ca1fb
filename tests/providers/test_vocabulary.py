import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cupola.errors import ModelFormatError
from cupola_providers.runtime.vocabulary import (
    AddedToken,
    ByteStream,
    TokenizerFile,
    Vocabulary,
    read_tokenizer_file,
)

LLAMA_DECODER = {
    "type": "Sequence",
    "decoders": [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
        {"type": "Strip", "content": " ", "start": 1, "stop": 0},
    ],
}


def read(tmp_path, content):
    (tmp_path / "tokenizer.json").write_text(json.dumps(content), "utf-8")
    return read_tokenizer_file(tmp_path)


def spelt_as_gpt2(byte):
    """The published rule, in its author's order: printable bytes first, the others from U+0100 on."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [n for n in range(256) if n not in printable]
    return chr(byte) if byte in printable else chr(256 + hidden.index(byte))


@pytest.fixture(scope="module")
def every_byte(tmp_path_factory):
    """A byte-level vocabulary in which token n is byte n, 256 is special and 257 is an added token."""
    added = [{"id": 256, "content": "<|end|>", "special": True}, {"id": 257, "content": "<tool> ä", "special": False}]
    content = {
        "added_tokens": added,
        "model": {"type": "BPE", "vocab": {spelt_as_gpt2(n): n for n in range(256)}},
        "decoder": {"type": "ByteLevel"},
    }
    return Vocabulary(read(tmp_path_factory.mktemp("bytes"), content))


def pushed(vocabulary, tokens):
    stream = ByteStream(vocabulary)
    return [*(stream.push(token) for token in tokens), stream.flush()]


@given(st.binary(max_size=40))
def test_any_bytes_come_out_as_python_decodes_them(every_byte, data):
    assert "".join(pushed(every_byte, data)) == data.decode("utf-8", "replace")


@given(st.text(max_size=20))
def test_nothing_comes_out_before_a_character_is_whole(every_byte, text):
    seen = b""
    stream = ByteStream(every_byte)
    out = ""
    for byte in text.encode():
        seen += bytes([byte])
        out += stream.push(byte)
        assert out == seen.decode("utf-8", "ignore")
    assert stream.flush() == ""


def test_a_dangling_rest_comes_out_as_one_replacement_character(every_byte):
    assert pushed(every_byte, "a🙂".encode()[:-1]) == ["a", "", "", "", "\ufffd"]


def test_text_after_an_invalid_sequence_is_not_lost(every_byte):
    assert "".join(pushed(every_byte, [*b"a", *"🙂".encode()[:2], *b" plain"])) == "a\ufffd plain"


def test_special_and_unknown_tokens_come_out_as_nothing_and_added_ones_as_their_text(every_byte):
    assert pushed(every_byte, [256, 97, 257, 9999]) == ["", "a", "<tool> ä", "", ""]


def test_control_tokens_of_the_config_are_special_whatever_the_tokenizer_says():
    file = TokenizerFile(added_tokens=[AddedToken(3, "<end>"), AddedToken(4, "<tool>")])
    assert Vocabulary(file, control_ids=frozenset({3})).specials == {3: "<end>"}


def sentencepiece(tmp_path, decoder, vocab):
    return Vocabulary(read(tmp_path, {"model": {"vocab": vocab}, "decoder": decoder}))


def test_sentencepiece_marks_become_spaces_and_byte_tokens_bytes(tmp_path):
    vocab = {"▁Hello": 0, "▁world": 1, "<0xF0>": 2, "<0x9F>": 3, "<0x99>": 4, "<0x82>": 5}
    vocabulary = sentencepiece(tmp_path, LLAMA_DECODER, vocab)
    assert pushed(vocabulary, [0, 1, 2, 3, 4, 5, 1]) == ["Hello", " world", "", "", "", "🙂", " world", ""]


def test_a_leading_space_stays_where_the_decoder_does_not_strip_it(tmp_path):
    decoder = {"type": "Sequence", "decoders": [*LLAMA_DECODER["decoders"][:3]]}
    assert pushed(sentencepiece(tmp_path, decoder, {"▁Hello": 0}), [0]) == [" Hello", ""]


def test_a_unigram_vocabulary_is_a_list(tmp_path):
    vocabulary = sentencepiece(tmp_path, {"type": "Metaspace"}, [["<unk>", 0.0], ["▁Hi", -1.5], ["▁you", -2.5]])
    assert pushed(vocabulary, [1, 2]) == ["Hi", " you", ""]


def test_a_missing_decoder_is_read_off_the_pre_tokenizer():
    assert Vocabulary(TokenizerFile(pre_tokenizer={"type": "ByteLevel"})).is_known
    assert not Vocabulary(TokenizerFile(decoder={"type": "WordPiece"})).is_known


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b'{"model": {"vocab": 3}}'])
def test_a_damaged_file_is_refused_with_what_to_do(tmp_path, content):
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(ModelFormatError, match="damaged.*download it again"):
        read_tokenizer_file(tmp_path)


def test_a_missing_file_is_refused_with_what_to_do(tmp_path):
    with pytest.raises(ModelFormatError, match="cannot be read.*download it again"):
        read_tokenizer_file(tmp_path)

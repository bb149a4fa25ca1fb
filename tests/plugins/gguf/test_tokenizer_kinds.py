"""Every kind of tokenizer, as onnxruntime-genai reads what was imported, against independent references."""

import itertools
import json
import random

import onnxruntime_genai
import pytest
import tokenizers

from cupola.errors import ModelFormatError
from cupola_plugins.gguf import files
from cupola_plugins.gguf.importer import import_gguf
from cupola_plugins.gguf.tokenizer import SPLITS, GgufTokenizer
from cupola_providers.runtime.config import read_config
from cupola_providers.runtime.tokenizer import GenaiTokenizer
from tiny_model import CONTROL, NORMAL, TinySizes, sentencepiece_gguf, tiny_gguf

PIECES = [
    *"abcdehilnorstuw   \n\r\t0123456789'.,!?#-_ñéü中文日本語каß٣½²①ªº\u2019\u00a0\u3000\u200b\u2028😀👩\u200d<",
    *["'s", "'T", "'re", "'LL", " the", "hello", "\r\n", "  ", "\n\n\n", "1234", " and", "<b"],
]
MORE_MERGES = [
    *["1 2", "12 3", "123 4", "č Ċ", "Ġ 1", "' s", "' t", "! Ċ", "! !", ". ĊĊ", "Ġ Ċ", "' T", "a '", "- a"],
    *["! a", "ĉ a", "Ġ !", "2 3", "3 4", "ĊĊ Ċ", "Ġ the"],
]


def texts(count, seed):
    rng = random.Random(seed)
    return ["".join(rng.choice(PIECES) for _ in range(rng.randint(1, 25))) for _ in range(count)]


def imported(gguf, folder):
    import_gguf(gguf.write(folder / "tiny.gguf"), folder)
    return onnxruntime_genai.Tokenizer(onnxruntime_genai.Config(str(folder)))


def byte_level_gguf(pre):
    """A tiny model whose vocabulary shows where a text was split."""
    gguf = tiny_gguf(TinySizes(layers=1))
    tokens = gguf.metadata["tokenizer.ggml.tokens"]
    added = [merge for merge in MORE_MERGES if merge.replace(" ", "") not in tokens]
    gguf.metadata["tokenizer.ggml.tokens"] = [*tokens, *(merge.replace(" ", "") for merge in added)]
    gguf.metadata["tokenizer.ggml.token_type"] += [NORMAL] * len(added)
    gguf.metadata["tokenizer.ggml.merges"] += added
    gguf.metadata["tokenizer.ggml.pre"] = pre
    return gguf.with_vocabulary()


@pytest.mark.parametrize("pre", SPLITS)
def test_byte_level_bpe_splits_texts_as_hugging_face_does(tmp_path, pre):
    tokenizer = imported(byte_level_gguf(pre), tmp_path)
    content = json.loads((tmp_path / files.TOKENIZER).read_text("utf-8"))
    content["model"]["ignore_merges"] = True  # as the runtime does it, whatever the file says
    reference = tokenizers.Tokenizer.from_str(json.dumps(content))
    for text in texts(2_000, seed=1):
        assert tokenizer.encode(text).tolist() == reference.encode(text).ids, ascii(text)


@pytest.mark.parametrize(
    ("pre", "pieces"),
    [
        ("qwen2", ["1", "2", "3", "4"]),
        ("llama-bpe", ["123", "4"]),
        ("smollm", ["1", "2", "3", "4"]),
        ("gpt-2", ["1234"]),
    ],
)
def test_numbers_are_split_as_each_family_does(tmp_path, pre, pieces):
    gguf = byte_level_gguf(pre)
    tokens = gguf.metadata["tokenizer.ggml.tokens"]
    assert [tokens[token] for token in imported(gguf, tmp_path).encode("1234").tolist()] == pieces


def spelt(text, gguf):
    """Tokenize as llama.cpp does: of all neighbours that are a token together, the best are joined, then the next."""
    tokens, scores = (gguf.metadata[f"tokenizer.ggml.{key}"] for key in ("tokens", "scores"))
    kinds = gguf.metadata["tokenizer.ggml.token_type"]
    ids = {token: number for number, token in enumerate(tokens)}
    score = {token: scores[number] for token, number in ids.items() if kinds[number] == NORMAL}
    prefix = "▁" if gguf.metadata.get("tokenizer.ggml.add_space_prefix", True) else ""
    symbols = list(prefix + text.replace(" ", "▁"))
    while True:
        pairs = [(-score[a + b], place) for place, (a, b) in enumerate(itertools.pairwise(symbols)) if a + b in score]
        if not pairs:
            break
        _, place = min(pairs)
        symbols[place : place + 2] = [symbols[place] + symbols[place + 1]]
    spelling = [[symbol] if symbol in score else [f"<0x{byte:02X}>" for byte in symbol.encode()] for symbol in symbols]
    return [ids[token] for part in spelling for token in part]


@pytest.mark.parametrize("prefix", [True, False])
def test_sentencepiece_is_spelt_as_llama_cpp_does(tmp_path, prefix):
    gguf = sentencepiece_gguf(prefix=prefix)
    tokenizer = imported(gguf, tmp_path)
    for text in texts(2_000, seed=2):
        if "\n\n" not in text and "<b>" not in text:  # tokens of their own, cut out before
            assert tokenizer.encode(text).tolist() == spelt(text, gguf), ascii(text)


@pytest.mark.parametrize("prefix", [True, False])
def test_what_sentencepiece_spelt_comes_back_as_it_was(tmp_path, prefix):
    imported(sentencepiece_gguf(prefix=prefix), tmp_path)
    tokenizer = GenaiTokenizer(tmp_path, read_config(tmp_path))
    for text in texts(300, seed=3):
        if prefix and "\n\n" in text:  # behind a token of its own there is a space again, as Llama 2 has it
            continue
        stream = tokenizer.stream()
        tokens = [token for token in tokenizer.encode(text) if token != 1]
        assert "".join(map(stream.push, tokens)) + stream.flush() == text


def test_a_text_begins_with_the_first_token_and_user_defined_ones_are_cut_out(tmp_path):
    gguf = sentencepiece_gguf(prefix=False)
    imported(gguf, tmp_path)
    tokenizer = GenaiTokenizer(tmp_path, read_config(tmp_path))
    tokens = gguf.metadata["tokenizer.ggml.tokens"]
    assert [tokens[token] for token in tokenizer.encode("a  b\n\n<s>")] == [
        "<s>", "a", "▁▁", "b", "\n\n", "<0x3C>", "s", "<0x3E>",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda metadata: metadata["tokenizer.ggml.scores"].pop(), "scores"),
        (lambda metadata: metadata["tokenizer.ggml.tokens"].__setitem__(9, "x<0x05>"), "no token for the byte <0x05>"),
        (lambda metadata: metadata.__setitem__("tokenizer.ggml.scores", ["a"]), "scores"),
        (lambda metadata: metadata.pop("tokenizer.ggml.scores"), "has no list"),
        (lambda metadata: metadata.__setitem__("tokenizer.ggml.remove_extra_whitespaces", True), "remove_extra"),
        (lambda metadata: metadata.__setitem__("tokenizer.ggml.pre", "llama-bpe"), "'llama-bpe'"),
    ],
)
def test_a_vocabulary_that_would_come_out_wrong_is_refused(tmp_path, change, reason):
    gguf = sentencepiece_gguf()
    assert gguf.metadata["tokenizer.ggml.token_type"][1] == CONTROL
    change(gguf.metadata)
    with pytest.raises(ModelFormatError) as caught:
        GgufTokenizer(tmp_path, gguf.metadata)
    assert reason in caught.value.detail

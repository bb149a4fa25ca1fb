import json
import unicodedata

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from cupola.errors import InvalidParameterError, ModelFormatError, RequestError
from cupola.provider import ChatPrompt, Message
from cupola_providers.runtime.embedding_wordpiece import WordPieceTokenizer
from tiny_embedder import PIECES, TOKENIZER, write_tiny_embedder

# Python knows the characters of newer releases of Unicode than the reference does
CHARACTERS = st.characters(exclude_categories=["Cs", "Cn"]).filter(
    lambda character: unicodedata.ucd_3_2_0.category(character) != "Cn"
)
TEXTS = st.text(CHARACTERS) | st.text("ABCabcdeßéÀİΣς[]SEPCLU#.,'-\t\r\n 中文한글ñ\0\N{ZERO WIDTH SPACE}")


def format_options(folder, **changes):
    return WordPieceTokenizer(write_tiny_embedder(folder, tokenizer=changes))


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return format_options(tmp_path_factory.mktemp("tokenizer"))


def names(tokens):
    return [PIECES[token] for token in tokens]


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("", []),
        ("hello world", ["hello", "world"]),
        ("  Hello\tWORLD\n", ["hello", "world"]),
        ("worldly news", ["world", "##ly", "new", "##s"]),
        ("Hello!World", ["hello", "!", "world"]),
        ("héllo wörld", ["hello", "world"]),
        ("he\0l\N{ZERO WIDTH SPACE}lo", ["hello"]),
        ("hello 中", ["hello", "[UNK]"]),
        ("hellofaword", ["[UNK]"]),
        ("x" * 101, ["[UNK]"]),
        ("\ud800", ["[UNK]"]),
    ],
)
def test_texts_become_the_pieces_bert_cuts_them_into(tokenizer, text, pieces):
    assert names(tokenizer.encode(text)) == ["[CLS]", *pieces, "[SEP]"]


@pytest.mark.parametrize("text", ["[SEP]", "[CLS]", "hello[SEP]world", "[[SEP]]", "[sep]", "[PAD]"])
def test_special_tokens_in_a_text_are_plain_text(tokenizer, text):
    assert not {0, 2, 3} & set(tokenizer.encode(text)[1:-1])


def test_nothing_is_cut_off_whatever_the_file_says(tokenizer):
    assert TOKENIZER["truncation"]["max_length"] == 3
    assert len(tokenizer.encode("hello " * 50)) == 52


RULES = [
    {},
    {"lowercase": False},
    {"lowercase": False, "strip_accents": True},
    {"strip_accents": False},
    {"clean_text": False, "handle_chinese_chars": False},
]


@pytest.mark.parametrize("rules", RULES, ids=str)
def test_it_agrees_with_the_reference_on_every_text(tmp_path, rules):
    vocabulary = [*PIECES[:4], *(chr(n) for n in range(33, 127)), *(f"##{chr(n)}" for n in range(97, 123))]
    vocabulary += [
        "é",
        "ß",
        "##ß",
        "中",
        "\N{GREEK SMALL LETTER SIGMA}",
        "##\N{GREEK SMALL LETTER SIGMA}",
        "ς",
        "i̇",
        "ᄒ",
        "##ᅡ",
        "##ᆫ",
    ]
    normalizer = {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "lowercase": True}
    model = {"type": "WordPiece", "vocab": {piece: n for n, piece in enumerate(vocabulary)}, "unk_token": "[UNK]"}
    file = TOKENIZER | {
        "normalizer": normalizer | rules,
        "model": model | {"continuing_subword_prefix": "##", "max_input_chars_per_word": 100},
        "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]},
        "truncation": None,
    }
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    file["added_tokens"] = [token | flags for token in file["added_tokens"]]
    ours = format_options(tmp_path, **file)
    reference = tokenizers.Tokenizer.from_str(json.dumps(file))
    reference.encode_special_tokens = True

    @given(TEXTS)
    def agrees(text):
        assert ours.encode(text) == reference.encode(text).ids

    agrees()


def test_tokens_can_be_read(tokenizer):
    tokens = tokenizer.encode("Worldly news!")
    assert b"".join(map(tokenizer.token_bytes, tokens)) == b"[CLS] worldly news ![SEP]"
    for special, text in ((True, "[CLS] worldly news ![SEP]"), (False, " worldly news !")):
        stream = tokenizer.stream(special=special)
        assert "".join(map(stream.push, tokens)) + stream.flush() == text


@pytest.mark.parametrize("token", [-1, len(PIECES)])
def test_a_token_that_does_not_exist_is_refused(tokenizer, token):
    with pytest.raises(InvalidParameterError, match=str(token)) as caught:
        tokenizer.token_bytes(token)
    assert caught.value.param == "tokens"


def test_chats_are_refused(tokenizer):
    assert tokenizer.template == ""
    with pytest.raises(RequestError, match="no chat template"):
        tokenizer.render(ChatPrompt((Message("user", "hello"),)))


def test_all_of_unicode_is_not_remembered(tokenizer):
    tokenizer.encode("".join(chr(code) for code in range(0x3400, 0xA000)))
    assert len(tokenizer._characters) <= 20_000


@pytest.mark.parametrize(
    "changes",
    [
        {"post_processor": {"type": "BertProcessing", "cls": ["[BOS]", 2], "sep": ["[SEP]", 3]}},
        {"post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "[CLS]"}}]}},
        {"model": {"type": "WordPiece", "vocab": {"a": 0}, "unk_token": "?"}},
    ],
)
def test_a_file_that_lacks_a_special_token_is_damaged(tmp_path, changes):
    with pytest.raises(ModelFormatError, match="special token is missing"):
        format_options(tmp_path, **changes)

"""Embeddings, whole: the real client, a real worker, and the real starter embedding model."""

import math

import httpx
import openai
import pytest

PAIRS = [
    ("A man is playing a guitar.", "Someone plays an instrument."),
    ("How do I reset my password?", "I forgot my login credentials."),
    ("The stock market fell sharply today.", "Share prices dropped a lot this afternoon."),
    ("The cat sleeps on the sofa.", "A kitten is napping on the couch."),
    ("Water boils at 100 degrees Celsius.", "At sea level, the boiling point of water is 212 Fahrenheit."),
    ("He likes to play football in the park.", "She enjoys soccer games outdoors."),
]


def embedded(service, model, given, **options):
    reply = service.openai.embeddings.create(model=model, input=given, **options)
    return [one.embedding for one in reply.data]


def cosine(first, second):
    return sum(a * b for a, b in zip(first, second, strict=True))


@pytest.fixture(scope="module")
def vectors(service, starter_embedder):
    texts = [text for pair in PAIRS for text in pair]
    return dict(zip(texts, embedded(service, starter_embedder, texts), strict=True))


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair[0])
def test_a_sentence_is_nearer_to_one_of_like_meaning_than_to_any_other(vectors, pair):
    others = [vector for text, vector in vectors.items() if text not in pair]
    for text, like in (pair, pair[::-1]):
        near = cosine(vectors[text], vectors[like])
        assert all(near > cosine(vectors[text], other) + 0.1 for other in others), (text, near)


def test_vectors_have_384_dimensions_and_length_1(vectors):
    for vector in vectors.values():
        assert len(vector) == 384
        assert math.hypot(*vector) == pytest.approx(1, abs=1e-5)


def test_case_accents_and_spaces_change_nothing(service, starter_embedder):
    first, second = embedded(service, starter_embedder, ["Café  in PARIS", "cafe in paris"])
    assert first == pytest.approx(second, abs=1e-5)


def test_a_text_alone_gives_the_vector_that_it_gives_among_others(service, vectors, starter_embedder):
    (alone,) = embedded(service, starter_embedder, PAIRS[0][0])
    assert cosine(alone, vectors[PAIRS[0][0]]) == pytest.approx(1, abs=1e-5)


def test_tokens_of_tokenize_give_the_vector_of_their_text(service, starter_embedder):
    text = PAIRS[1][0]
    body = {"model": starter_embedder, "prompt": text}
    counted = httpx.post(f"{service.url}/tokenize", json=body, timeout=60).json()
    assert counted["max_model_len"] == 256
    from_text, from_tokens = (embedded(service, starter_embedder, given)[0] for given in (text, counted["tokens"]))
    assert cosine(from_text, from_tokens) == pytest.approx(1, abs=1e-5)


def test_fewer_dimensions_are_the_first_ones_at_length_1_again(service, vectors, starter_embedder):
    text = PAIRS[0][0]
    (short,) = embedded(service, starter_embedder, text, dimensions=64)
    head = vectors[text][:64]
    assert short == pytest.approx([value / math.hypot(*head) for value in head], abs=1e-5)


def test_more_dimensions_than_there_are_are_refused_with_both_numbers(service, starter_embedder):
    with pytest.raises(openai.BadRequestError, match=r"384 dimensions.*1536") as caught:
        embedded(service, starter_embedder, "a", dimensions=1536)
    assert caught.value.param == "dimensions"


def test_the_usage_counts_the_tokens_of_all_inputs(service, starter_embedder):
    reply = service.openai.embeddings.create(model=starter_embedder, input=["hello world", "hi"])
    assert reply.usage.prompt_tokens == reply.usage.total_tokens == 4 + 3
    assert reply.model == "all-minilm-l6-v2-generic-cpu:1"


def test_what_is_too_long_is_refused_with_both_numbers_and_nothing_is_cut_off(service, starter_embedder):
    assert embedded(service, starter_embedder, "word " * 254)
    with pytest.raises(openai.BadRequestError, match=r"257 tokens.*256") as caught:
        embedded(service, starter_embedder, ["a"] * 70 + ["word " * 255])
    assert caught.value.param == "input[70]"


def test_a_token_beyond_the_vocabulary_is_refused(service, starter_embedder):
    with pytest.raises(openai.BadRequestError, match="50256") as caught:
        embedded(service, starter_embedder, [[101, 102], [101, 50256, 102]])
    assert caught.value.param == "input[1]"


def test_a_chat_model_makes_no_embeddings_and_an_embedding_model_no_answers(service, starter_embedder):
    with pytest.raises(openai.BadRequestError, match="not an embedding model") as caught:
        embedded(service, "smollm2-135m", "a")
    assert caught.value.param == "model"
    with pytest.raises(openai.BadRequestError, match="cannot generate text") as caught:
        service.openai.chat.completions.create(model=starter_embedder, messages=[{"role": "user", "content": "hi"}])
    assert caught.value.param == "model"
